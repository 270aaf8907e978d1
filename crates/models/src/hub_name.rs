//! `hf:OWNER/REPO[:QUANT]`: the name of any GGUF repository on the hub, and its parts.

/// Longest part of a repository's name that the hub allows.
const MAX_PART_LEN: usize = 96;

/// A GGUF repository of the hub, and which of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    /// `owner/repo`.
    pub repo: String,
    /// Quantisation, upper case; none for the usual choice.
    pub quant: Option<String>,
}

impl HubName {
    /// Reads `hf:OWNER/REPO[:QUANT]` (also `hf.co/OWNER/REPO` and the address of the repository's page).
    /// None when the text is no such name.
    pub fn parse(text: &str) -> Option<HubName> {
        let rest = ["hf:", "hf.co/", "huggingface.co/", "https://hf.co/", "https://huggingface.co/"]
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix))?;
        let (repo, quant) = match rest.split_once(':') {
            Some((repo, quant)) => (repo, Some(quant)),
            None => (rest.trim_end_matches('/'), None),
        };
        let quant_is_plain = |quant: &str| {
            !quant.is_empty() && quant.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        if !is_repo(repo) || !quant.is_none_or(quant_is_plain) {
            return None;
        }
        Some(HubName { repo: repo.to_string(), quant: quant.map(str::to_uppercase) })
    }
}

impl std::fmt::Display for HubName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "hf:{}", self.repo)?;
        self.quant.iter().try_for_each(|quant| write!(f, ":{quant}"))
    }
}

/// Whether this is `owner/repo` in the hub's alphabet (so that it can stand in addresses and file names).
pub(crate) fn is_repo(text: &str) -> bool {
    let part = |part: &str| {
        (1..=MAX_PART_LEN).contains(&part.len())
            && !part.starts_with(['.', '-'])
            && !part.contains("--") // the hub forbids it, and cache folders use it as their separator
            && !part.contains("..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    text.split_once('/').is_some_and(|(owner, repo)| part(owner) && part(repo))
}

/// Whether this is a relative path without `..`, control characters or anything that an address would end at.
pub(crate) fn is_repo_path(path: &str) -> bool {
    !path.is_empty()
        && !path.contains("..")
        && path.split('/').all(|part| !part.is_empty() && part != ".")
        && !path.bytes().any(|b| b.is_ascii_control() || matches!(b, b'?' | b'#' | b'\\' | b'%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_people_write_a_repository_are_understood() {
        let name = |repo: &str, quant: Option<&str>| {
            Some(HubName { repo: repo.to_string(), quant: quant.map(str::to_string) })
        };
        assert_eq!(HubName::parse("hf:Qwen/Qwen3-0.6B-GGUF"), name("Qwen/Qwen3-0.6B-GGUF", None));
        assert_eq!(
            HubName::parse("hf:Qwen/Qwen3-0.6B-GGUF:q8_0"),
            name("Qwen/Qwen3-0.6B-GGUF", Some("Q8_0"))
        );
        assert_eq!(HubName::parse("https://huggingface.co/a/b/"), name("a/b", None));
        assert_eq!(
            HubName::parse("hf:a/b:Q4_K_M").map(|name| name.to_string()).as_deref(),
            Some("hf:a/b:Q4_K_M")
        );
    }

    #[test]
    fn names_that_could_leave_the_hub_or_the_folder_are_refused() {
        for text in
            ["hf:", "hf:a", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b:", "hf:a/b:x/y", "hf:a b/c", "a/b"]
        {
            assert_eq!(HubName::parse(text), None, "{text:?}");
        }
        for path in ["../x.gguf", "/x.gguf", "a//b", "x.gguf?y", "a\\b", "x%2e", ""] {
            assert!(!is_repo_path(path), "{path:?}");
        }
        assert!(is_repo_path("Q4_K_M/model-00001-of-00002.gguf"));
    }
}
