//! How long conversations may be, and how much memory their keys and values get.

use kernels::PAGE_LEN;

/// Length of a conversation in tokens, and bytes for the keys and values of all conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextPlan {
    /// The longest conversation, in tokens.
    pub max_seq_len: usize,
    /// For all conversations together.
    pub kv_memory_bytes: u64,
}

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct ContextWish {
    /// `--ctx`.
    pub ctx: Option<usize>,
    /// `--kv-memory`.
    pub kv_memory_bytes: Option<u64>,
    /// Conversations of full length that should have room at once where the memory allows it.
    pub n_conversations: u64,
}

impl ContextPlan {
    /// What was asked for is taken as it is (memory that is too small for it is the engine's error to tell). Otherwise
    /// the context is the trained one as far as it fits into the memory for keys and values, and that is at most a
    /// quarter of the machine's (`total_bytes`, 0 where it is not known) unless one conversation needs more.
    pub fn new(wish: ContextWish, trained: usize, bytes_per_token: u64, total_bytes: u64) -> ContextPlan {
        let bytes_per_token = bytes_per_token.max(1);
        let bytes =
            |n_tokens: usize| (n_tokens.next_multiple_of(PAGE_LEN) as u64).saturating_mul(bytes_per_token);
        let fits = |memory: u64| {
            let n_tokens = usize::try_from(memory / bytes_per_token).unwrap_or(usize::MAX);
            (n_tokens / PAGE_LEN * PAGE_LEN).max(PAGE_LEN)
        };
        let quarter = if total_bytes == 0 { u64::MAX } else { total_bytes / 4 };
        let room = wish.kv_memory_bytes.unwrap_or(quarter);
        let max_seq_len = wish.ctx.unwrap_or_else(|| trained.min(fits(room)));
        let wanted = bytes(max_seq_len).saturating_mul(wish.n_conversations);
        let kv_memory_bytes =
            wish.kv_memory_bytes.unwrap_or_else(|| wanted.min(quarter).max(bytes(max_seq_len)));
        ContextPlan { max_seq_len, kv_memory_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_context_is_what_was_asked_for_or_what_fits() {
        struct Case {
            ctx: Option<usize>,
            kv: Option<u64>,
            trained: usize,
            expected: (usize, u64),
        }
        // 10,000 bytes a token on a machine of 8 GiB, two conversations.
        let cases = [
            Case { ctx: None, kv: None, trained: 32768, expected: (32768, 2 * 32768 * 10_000) },
            Case { ctx: None, kv: None, trained: 2048, expected: (2048, 2 * 2048 * 10_000) },
            Case { ctx: None, kv: None, trained: 131_072, expected: (131_072, 2 * GIB) },
            Case { ctx: None, kv: None, trained: 1 << 20, expected: (214_720, 2 * GIB) },
            Case { ctx: Some(4096), kv: None, trained: 32768, expected: (4096, 2 * 4096 * 10_000) },
            Case { ctx: Some(100_000), kv: None, trained: 32768, expected: (100_000, 2 * 100_032 * 10_000) },
            Case { ctx: None, kv: Some(20_000_000), trained: 32768, expected: (1984, 20_000_000) },
            Case { ctx: Some(4096), kv: Some(20_000_000), trained: 32768, expected: (4096, 20_000_000) },
        ];
        for Case { ctx, kv, trained, expected } in cases {
            let wish = ContextWish { ctx, kv_memory_bytes: kv, n_conversations: 2 };
            let plan = ContextPlan::new(wish, trained, 10_000, 8 * GIB);
            let found = (plan.max_seq_len, plan.kv_memory_bytes);
            assert_eq!(found, expected, "ctx {ctx:?}, kv {kv:?}, trained {trained}");
        }
    }

    #[test]
    fn a_small_machine_gives_a_quarter_of_its_memory() {
        let wish = |ctx| ContextWish { ctx, kv_memory_bytes: None, n_conversations: 2 };
        let plan = |ctx| ContextPlan::new(wish(ctx), 32768, 1 << 20, 8 * GIB);
        assert_eq!(plan(None), ContextPlan { max_seq_len: 2048, kv_memory_bytes: 2 * GIB });
        let asked = ContextPlan { max_seq_len: 4096, kv_memory_bytes: 4 * GIB };
        assert_eq!(plan(Some(4096)), asked, "what was asked for must fit at least once");
        let unknown = ContextPlan::new(wish(None), 32768, 1 << 20, 0);
        assert_eq!(unknown.max_seq_len, 32768, "a machine that does not tell its memory is trusted");
    }
}
