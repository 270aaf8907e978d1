//! Where a step's time goes: seconds, bytes and operations of each phase.

use std::time::Instant;

/// A phase of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows of the embedding matrix.
    Embed,
    /// Normalisation of the residual stream, with the quantisation of its result.
    Norm,
    /// The query, key and value projections.
    Qkv,
    /// Biases, query and key norms, rotary positions, writing keys and values.
    RopeAndCache,
    /// Attention.
    Attention,
    /// The projection of the attention's output, added to the residual stream.
    AttnOut,
    /// The gate and up projections.
    FfnUp,
    /// The gate's product, with its quantisation.
    Activation,
    /// The down projection, added to the residual stream.
    FfnDown,
    /// The output matrix.
    LmHead,
    /// Drawing tokens.
    Sampling,
    /// Everything else: inbox, planning, pages, events.
    Scheduling,
}

impl Phase {
    /// All phases, in the order of a step.
    pub const ALL: [Phase; 12] = [
        Phase::Embed,
        Phase::Norm,
        Phase::Qkv,
        Phase::RopeAndCache,
        Phase::Attention,
        Phase::AttnOut,
        Phase::FfnUp,
        Phase::Activation,
        Phase::FfnDown,
        Phase::LmHead,
        Phase::Sampling,
        Phase::Scheduling,
    ];

    /// The phase's name.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Embed => "embed",
            Phase::Norm => "norm",
            Phase::Qkv => "qkv",
            Phase::RopeAndCache => "rope_and_cache",
            Phase::Attention => "attention",
            Phase::AttnOut => "attn_out",
            Phase::FfnUp => "ffn_up",
            Phase::Activation => "activation",
            Phase::FfnDown => "ffn_down",
            Phase::LmHead => "lm_head",
            Phase::Sampling => "sampling",
            Phase::Scheduling => "scheduling",
        }
    }
}

/// What one phase cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PhaseCost {
    /// Seconds spent.
    pub seconds: f64,
    /// Bytes of weights, or of keys and values, that had to be read.
    pub bytes: f64,
    /// Multiplications and additions.
    pub ops: f64,
    /// Times it ran.
    pub calls: u64,
}

/// The cost of all phases since the profile was last taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    costs: [PhaseCost; Phase::ALL.len()],
    /// Steps in it.
    pub n_steps: u64,
    /// Tokens computed in them.
    pub n_tokens: u64,
}

impl Profile {
    /// What a phase cost.
    pub fn cost(&self, phase: Phase) -> PhaseCost {
        self.costs[phase as usize]
    }

    /// Each phase with its cost, in the order of a step.
    pub fn phases(&self) -> impl Iterator<Item = (Phase, PhaseCost)> + '_ {
        Phase::ALL.iter().map(|&phase| (phase, self.cost(phase)))
    }

    /// Adds another profile to this one.
    pub(crate) fn add(&mut self, other: &Profile) {
        for (mine, theirs) in self.costs.iter_mut().zip(&other.costs) {
            mine.seconds += theirs.seconds;
            mine.bytes += theirs.bytes;
            mine.ops += theirs.ops;
            mine.calls += theirs.calls;
        }
        self.n_steps += other.n_steps;
        self.n_tokens += other.n_tokens;
    }
}

/// A stopwatch that books the time since the last phase ended; does nothing when off.
pub(crate) struct Stopwatch {
    last: Option<Instant>,
    pub(crate) profile: Profile,
}

impl Stopwatch {
    /// A stopwatch that stands still.
    pub(crate) fn new() -> Stopwatch {
        Stopwatch { last: None, profile: Profile::default() }
    }

    /// Begins a step.
    pub(crate) fn start(&mut self, on: bool) {
        self.last = on.then(Instant::now);
    }

    /// Books the time since the last call to `phase`.
    pub(crate) fn lap(&mut self, phase: Phase, bytes: usize, ops: usize) {
        if let Some(last) = self.last {
            let now = Instant::now();
            let cost = &mut self.profile.costs[phase as usize];
            cost.seconds += now.duration_since(last).as_secs_f64();
            cost.bytes += bytes as f64;
            cost.ops += ops as f64;
            cost.calls += 1;
            self.last = Some(now);
        }
    }

    /// Ends a step of `n_tokens`.
    pub(crate) fn finish(&mut self, n_tokens: usize) {
        if self.last.take().is_some() {
            self.profile.n_steps += 1;
            self.profile.n_tokens += n_tokens as u64;
        }
    }
}
