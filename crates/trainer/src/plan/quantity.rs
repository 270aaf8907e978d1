//! Numbers as people write them: `300B`, `8h`, `200 CNY`.

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// No count.
    #[error("{0:?} is not a number; write it like 300B, 2.5M or 1000000")]
    Count(String),
    /// No time.
    #[error("{0:?} is not a time; write it like 8h, 30m or 2d")]
    Duration(String),
    /// No money.
    #[error("{0:?} is not an amount of money; write it like \"200 CNY\", $5 or 0.6")]
    Amount(String),
    /// No currency.
    #[error("{0:?} is not a currency; write its three letters, like CNY or USD")]
    Currency(String),
}

/// Money, perhaps in a currency that is yet to be known.
#[derive(Debug, Clone, PartialEq)]
pub struct Amount {
    /// How much.
    pub value: f64,
    /// Three capital letters, e.g. `CNY`.
    pub currency: Option<String>,
}

/// Counts are whole numbers up to here: far more than any corpus has tokens.
const MAX_COUNT: f64 = 1e18;
/// Seconds of ten thousand years.
const MAX_SECONDS: f64 = 3.2e11;

/// `300B` → 300,000,000,000. K, M, B (or G) and T are powers of a thousand.
///
/// # Errors
/// Where it is no number of at least one.
pub fn parse_count(text: &str) -> Result<u64, QuantityError> {
    let error = || QuantityError::Count(text.to_owned());
    let (digits, unit) = split(text.trim());
    let unit = match unit.to_ascii_uppercase().as_str() {
        "" => 1.0,
        "K" => 1e3,
        "M" => 1e6,
        "B" | "G" => 1e9,
        "T" => 1e12,
        _ => return Err(error()),
    };
    let n = positive(digits).ok_or_else(error)? * unit;
    if (1.0..=MAX_COUNT).contains(&n) { Ok(n.round() as u64) } else { Err(error()) }
}

/// `8h` → 28,800 seconds; parts add up, as in `1d12h`.
///
/// # Errors
/// Where it is no time, or longer than ten thousand years.
pub fn parse_duration(text: &str) -> Result<f64, QuantityError> {
    let error = || QuantityError::Duration(text.to_owned());
    let mut rest = text.trim();
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (digits, tail) = split(rest);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let unit = match &tail[..end] {
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 7.0 * 86_400.0,
            "y" => 365.25 * 86_400.0,
            _ => return Err(error()),
        };
        seconds += positive(digits).ok_or_else(error)? * unit;
        rest = tail[end..].trim_start();
    }
    if seconds > 0.0 && seconds <= MAX_SECONDS { Ok(seconds) } else { Err(error()) }
}

/// `200 CNY`, `$5`, `¥200`, `0.6`.
///
/// # Errors
/// Where it is no positive number, with or without a currency.
pub fn parse_amount(text: &str) -> Result<Amount, QuantityError> {
    let error = || QuantityError::Amount(text.to_owned());
    let trimmed = text.trim();
    let (sign, trimmed) = match trimmed.chars().next() {
        Some(sign @ ('$' | '¥' | '€')) => {
            (currency_of_sign(sign), trimmed[sign.len_utf8()..].trim_start())
        }
        _ => (None, trimmed),
    };
    let (digits, unit) = split(trimmed);
    let value = positive(digits).ok_or_else(error)?;
    let currency = match (sign, unit) {
        (sign, "") => sign.map(str::to_owned),
        (None, "yuan" | "元") => Some("CNY".to_owned()),
        (None, unit) => Some(parse_currency(unit).map_err(|_| error())?),
        (Some(_), _) => return Err(error()),
    };
    Ok(Amount { value, currency })
}

/// Three letters, as ISO 4217 has them.
///
/// # Errors
/// Where it is anything else.
pub fn parse_currency(text: &str) -> Result<String, QuantityError> {
    let is_code = text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphabetic());
    if is_code { Ok(text.to_ascii_uppercase()) } else { Err(QuantityError::Currency(text.to_owned())) }
}

/// The sign ¥ is read as the yuan.
fn currency_of_sign(sign: char) -> Option<&'static str> {
    match sign {
        '$' => Some("USD"),
        '¥' => Some("CNY"),
        '€' => Some("EUR"),
        _ => None,
    }
}

/// The number at the beginning, and what follows it.
fn split(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let mut end = 0;
    while end < bytes.len() {
        let is_exponent = matches!(bytes[end], b'e' | b'E')
            && end > 0
            && bytes.get(end + 1).is_some_and(|b| b.is_ascii_digit() || *b == b'+');
        if !(bytes[end].is_ascii_digit() || matches!(bytes[end], b'.' | b'_' | b',') || is_exponent) {
            break;
        }
        end += if is_exponent { 2 } else { 1 };
    }
    (&text[..end], text[end..].trim_start())
}

/// A number above zero; `_` and `,` between thousands are left out.
fn positive(digits: &str) -> Option<f64> {
    let digits: String = digits.chars().filter(|c| !matches!(c, '_' | ',')).collect();
    digits.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_take_units_of_a_thousand() {
        let cases = [
            ("300B", 300_000_000_000),
            ("2.5M", 2_500_000),
            ("1_000", 1000),
            ("1,000", 1000),
            ("3e11", 300_000_000_000),
            ("1e+3K", 1_000_000),
            ("2 t", 2_000_000_000_000),
            ("7", 7),
        ];
        for (text, n) in cases {
            assert_eq!(parse_count(text), Ok(n), "{text}");
        }
        for nonsense in ["", "B", "-1M", "0", "0.2", "1X", "nan", "1e400", "1e19", "1.2.3"] {
            assert!(parse_count(nonsense).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn times_add_up() {
        let cases =
            [("8h", 28_800.0), ("30m", 1800.0), ("2d", 172_800.0), ("1d12h", 129_600.0), ("90 s", 90.0)];
        for (text, seconds) in cases {
            assert_eq!(parse_duration(text), Ok(seconds), "{text}");
        }
        for nonsense in ["", "8", "h", "-8h", "0h", "8 parsecs", "1e300y"] {
            assert!(parse_duration(nonsense).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn money_has_its_currency_before_or_behind() {
        let cases = [
            ("200 CNY", 200.0, Some("CNY")),
            ("200cny", 200.0, Some("CNY")),
            ("$5", 5.0, Some("USD")),
            ("¥1,000", 1000.0, Some("CNY")),
            ("€ 0.25", 0.25, Some("EUR")),
            ("200 yuan", 200.0, Some("CNY")),
            ("200元", 200.0, Some("CNY")),
            ("12 EUR", 12.0, Some("EUR")),
            ("0.6", 0.6, None),
        ];
        for (text, value, currency) in cases {
            let amount = Amount { value, currency: currency.map(str::to_owned) };
            assert_eq!(parse_amount(text), Ok(amount), "{text}");
        }
        for nonsense in ["", "$", "CNY", "-5 USD", "5 dollars", "$5 CNY", "5 U1D"] {
            assert!(parse_amount(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
