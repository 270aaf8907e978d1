//! Machines that can be rented or owned: a file of figures → checked entries. Every complaint names the file and the line.

use serde::Deserialize;
use tokenizer::one_line;
use toml::Spanned;

use super::Money;
use super::quantity::parse_currency;

/// The file that is part of the binary.
const BUILTIN: &str = include_str!("../../accelerators.toml");

/// The name that means the machine at hand; no entry has it.
pub const THIS_MACHINE: &str = "here";

/// Why machines or money are not known.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AcceleratorError {
    /// The file is not TOML of the expected form, or a value cannot be used.
    #[error("accelerators {file}, line {line}: {message}")]
    File {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// No entry has the name.
    #[error("no accelerator named {name:?}; known are {known} and {THIS_MACHINE} for this machine")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Names there are.
        known: String,
    },
    /// Money of one currency cannot be told in another.
    #[error(
        "no exchange rate of {currency}; add [[exchange]] to a file for --accelerators, or name prices in {other}"
    )]
    NoRate {
        /// The currency.
        currency: String,
        /// The other one.
        other: String,
    },
}

/// All that is known of machines and their prices.
#[derive(Debug, Clone, PartialEq)]
pub struct Accelerators {
    entries: Vec<Accelerator>,
    rates: Vec<ExchangeRate>,
}

/// One kind of machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Accelerator {
    /// Short, e.g. `h100`.
    pub name: String,
    /// For people, e.g. `NVIDIA H100 SXM 80 GB`.
    pub title: String,
    /// Floating-point operations a second, at most: products of bf16 or f16 with sums in f32, dense, e.g. 989.4e12.
    pub peak_flops: f64,
    /// Its memory, e.g. 80e9.
    pub memory_bytes: u64,
    /// Its rated power, e.g. 700.
    pub watts: Option<f64>,
    /// What it costs to rent, where that is known.
    pub prices: Vec<Price>,
    /// The day on which the source was read, as `2026-11-27`.
    pub as_of: String,
    /// Where the figures stand.
    pub source: String,
}

/// The rent of one for an hour.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// An hour's.
    pub per_hour: Money,
    /// The day, or the month, for which it is stated.
    pub as_of: String,
    /// Who states it.
    pub source: String,
}

/// What a currency is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct ExchangeRate {
    /// Three letters.
    pub currency: String,
    /// Units for one US dollar.
    pub per_usd: f64,
    /// The day for which it is stated.
    pub as_of: String,
    /// Who states it.
    pub source: String,
}

impl Accelerators {
    /// Those that are built in.
    ///
    /// # Panics
    /// Never: a test reads the file.
    #[must_use]
    pub fn builtin() -> Accelerators {
        parse(BUILTIN, "accelerators.toml").expect("a test reads the file that is built in")
    }

    /// With the entries of the file `text` added, or put in the place of others of the same name; `file` is its name for
    /// errors.
    ///
    /// # Errors
    /// Where the file is not of the expected form.
    pub fn with_file(mut self, text: &str, file: &str) -> Result<Accelerators, AcceleratorError> {
        let more = parse(text, file)?;
        for entry in more.entries {
            match self.entries.iter_mut().find(|old| same_name(&old.name, &entry.name)) {
                Some(old) => *old = entry,
                None => self.entries.push(entry),
            }
        }
        for rate in more.rates {
            self.rates.retain(|old| old.currency != rate.currency);
            self.rates.push(rate);
        }
        Ok(self)
    }

    /// In the order of their files.
    #[must_use]
    pub fn entries(&self) -> &[Accelerator] {
        &self.entries
    }

    /// The one of this name.
    ///
    /// # Errors
    /// Where there is none; the error lists those that there are.
    pub fn find(&self, name: &str) -> Result<&Accelerator, AcceleratorError> {
        self.entries.iter().find(|entry| same_name(&entry.name, name)).ok_or_else(|| {
            AcceleratorError::Unknown {
                name: name.to_owned(),
                known: self.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>().join(", "),
            }
        })
    }

    /// The rate of a currency; the US dollar has none.
    #[must_use]
    pub fn rate(&self, currency: &str) -> Option<&ExchangeRate> {
        self.rates.iter().find(|rate| rate.currency == currency)
    }

    /// The same money in another currency.
    ///
    /// # Errors
    /// Where a rate is missing.
    pub fn convert(&self, money: &Money, currency: &str) -> Result<Money, AcceleratorError> {
        let per_usd = |of: &str, other: &str| match self.rate(of) {
            Some(rate) => Ok(rate.per_usd),
            None if of == "USD" => Ok(1.0),
            None => Err(AcceleratorError::NoRate { currency: of.to_owned(), other: other.to_owned() }),
        };
        if money.currency == currency {
            return Ok(money.clone());
        }
        let amount = money.amount * per_usd(currency, &money.currency)? / per_usd(&money.currency, currency)?;
        Ok(Money { amount, currency: currency.to_owned() })
    }
}

impl Accelerator {
    /// The price in this currency, else the first.
    #[must_use]
    pub fn price(&self, currency: Option<&str>) -> Option<&Price> {
        let asked = currency.and_then(|c| self.prices.iter().find(|price| price.per_hour.currency == c));
        asked.or(self.prices.first())
    }
}

/// `RTX 4090`, `rtx-4090` and `rtx4090` are one.
fn same_name(a: &str, b: &str) -> bool {
    let letters = |name: &str| -> String {
        let kept = name.chars().filter(|c| !matches!(c, ' ' | '-' | '_'));
        kept.flat_map(char::to_lowercase).collect()
    };
    letters(a) == letters(b)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    accelerator: Vec<Spanned<RawAccelerator>>,
    #[serde(default)]
    exchange: Vec<Spanned<RawRate>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAccelerator {
    name: String,
    title: String,
    peak_tflops: f64,
    memory_gb: f64,
    watts: Option<f64>,
    #[serde(default)]
    price: Vec<Spanned<RawPrice>>,
    as_of: String,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrice {
    per_hour: f64,
    currency: String,
    as_of: String,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRate {
    currency: String,
    per_usd: f64,
    as_of: String,
    source: String,
}

/// What is wrong with an entry that begins at an offset.
struct Place<'a> {
    file: &'a str,
    text: &'a str,
    offset: usize,
}

impl Place<'_> {
    fn wrong(&self, message: impl Into<String>) -> AcceleratorError {
        let before = &self.text.as_bytes()[..self.offset.min(self.text.len())];
        AcceleratorError::File {
            file: self.file.to_owned(),
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            message: one_line(&message.into()),
        }
    }

    fn positive(&self, field: &str, x: f64) -> Result<f64, AcceleratorError> {
        let is_usable = x.is_finite() && x > 0.0;
        if is_usable {
            Ok(x)
        } else {
            Err(self.wrong(format!("{field}: expected a number above zero, found {x}")))
        }
    }

    fn currency(&self, text: &str) -> Result<String, AcceleratorError> {
        parse_currency(text).map_err(|error| self.wrong(error.to_string()))
    }

    /// A day as `2026-11-27`, and a source that says something.
    fn origin(&self, as_of: String, source: String) -> Result<(String, String), AcceleratorError> {
        let is_day = as_of.len() == 10
            && as_of
                .bytes()
                .enumerate()
                .all(|(i, b)| if matches!(i, 4 | 7) { b == b'-' } else { b.is_ascii_digit() });
        if !is_day {
            return Err(self.wrong(format!("as_of: expected a day as 2026-11-27, found {as_of:?}")));
        }
        if source.trim().is_empty() {
            return Err(self.wrong("source: expected where the figures stand, found nothing"));
        }
        Ok((as_of, source))
    }
}

fn parse(text: &str, file: &str) -> Result<Accelerators, AcceleratorError> {
    let place = |offset| Place { file, text, offset };
    let raw: RawFile = toml::from_str(text)
        .map_err(|error| place(error.span().map_or(0, |span| span.start)).wrong(error.message()))?;
    let entry = |raw: Spanned<RawAccelerator>| check(&place, raw);
    let rate = |raw: Spanned<RawRate>| {
        let place = place(raw.span().start);
        let raw = raw.into_inner();
        let (as_of, source) = place.origin(raw.as_of, raw.source)?;
        let (currency, per_usd) = (place.currency(&raw.currency)?, place.positive("per_usd", raw.per_usd)?);
        Ok(ExchangeRate { currency, per_usd, as_of, source })
    };
    Ok(Accelerators {
        entries: raw.accelerator.into_iter().map(entry).collect::<Result<_, _>>()?,
        rates: raw.exchange.into_iter().map(rate).collect::<Result<_, _>>()?,
    })
}

fn check<'a>(
    place_at: &impl Fn(usize) -> Place<'a>,
    raw: Spanned<RawAccelerator>,
) -> Result<Accelerator, AcceleratorError> {
    let place = place_at(raw.span().start);
    let raw = raw.into_inner();
    if same_name(&raw.name, "") || same_name(&raw.name, THIS_MACHINE) {
        return Err(place.wrong(format!("name: {:?} cannot be the name of an entry", raw.name)));
    }
    let price = |raw: Spanned<RawPrice>| {
        let place = place_at(raw.span().start);
        let raw = raw.into_inner();
        let (as_of, source) = place.origin(raw.as_of, raw.source)?;
        let amount = place.positive("per_hour", raw.per_hour)?;
        Ok(Price { per_hour: Money { amount, currency: place.currency(&raw.currency)? }, as_of, source })
    };
    let (as_of, source) = place.origin(raw.as_of, raw.source)?;
    Ok(Accelerator {
        name: raw.name,
        title: raw.title,
        peak_flops: place.positive("peak_tflops", raw.peak_tflops)? * 1e12,
        memory_bytes: (place.positive("memory_gb", raw.memory_gb)? * 1e9) as u64,
        watts: raw.watts.map(|watts| place.positive("watts", watts)).transpose()?,
        prices: raw.price.into_iter().map(price).collect::<Result<_, _>>()?,
        as_of,
        source,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The earliest machine with cards of this kind, and the day on which the file was last looked over.
    const DAYS: std::ops::RangeInclusive<&str> = "2017-05-10"..="2026-11-27";

    #[test]
    fn every_figure_that_is_built_in_has_a_day_and_a_source() {
        let known = parse(BUILTIN, "accelerators.toml").unwrap();
        assert!(known.entries.len() >= 9 && known.rate("CNY").is_some());
        let prices = known.entries.iter().flat_map(|entry| &entry.prices);
        let origins = (known.entries.iter().map(|entry| (&entry.as_of, &entry.source)))
            .chain(prices.map(|price| (&price.as_of, &price.source)))
            .chain(known.rates.iter().map(|rate| (&rate.as_of, &rate.source)));
        for (as_of, source) in origins {
            assert!(DAYS.contains(&as_of.as_str()), "{as_of}: {source}");
            assert!(source.contains("https://"), "{source:?} says where");
        }
        for entry in &known.entries {
            assert!((1e13..1e16).contains(&entry.peak_flops), "{}: {}", entry.name, entry.peak_flops);
            assert!((8_000_000_000..1_000_000_000_000).contains(&entry.memory_bytes), "{}", entry.name);
            assert!(entry.watts.is_none_or(|watts| (100.0..2000.0).contains(&watts)), "{}", entry.name);
            let same = known.entries.iter().filter(|other| same_name(&other.name, &entry.name));
            assert_eq!(same.count(), 1, "{} once", entry.name);
        }
    }

    #[test]
    fn names_are_found_as_people_write_them() {
        let known = Accelerators::builtin();
        for name in ["rtx-4090", "RTX 4090", "rtx4090"] {
            assert_eq!(known.find(name).unwrap().name, "rtx-4090");
        }
        let error = known.find("tpu").unwrap_err().to_string();
        assert!(
            error.contains("\"tpu\"") && error.contains("v100, a100, h100") && error.contains("here"),
            "{error}"
        );
    }

    const OWN: &str = "[[accelerator]]\nname = \"H100\"\ntitle = \"ours\"\npeak_tflops = 900\nmemory_gb = 80\n\
        as_of = \"2026-01-01\"\nsource = \"measured\"\n\n[[accelerator.price]]\nper_hour = 10\ncurrency = \"cny\"\n\
        as_of = \"2026-01-01\"\nsource = \"a contract\"\n\n[[exchange]]\ncurrency = \"EUR\"\nper_usd = 0.5\n\
        as_of = \"2026-01-01\"\nsource = \"a bank\"\n";

    #[test]
    fn a_file_of_ones_own_replaces_and_adds() {
        let built_in = Accelerators::builtin();
        let known = built_in.clone().with_file(OWN, "own.toml").unwrap();
        assert_eq!(known.entries.len(), built_in.entries.len());
        let entry = known.find("h100").unwrap();
        assert_eq!((entry.title.as_str(), entry.peak_flops, entry.watts), ("ours", 9e14, None));
        let price = &entry.price(None).unwrap().per_hour;
        assert_eq!((price.amount, price.currency.as_str()), (10.0, "CNY"));
        let euros = known.convert(&Money { amount: 3.0, currency: "USD".into() }, "EUR").unwrap();
        assert_eq!((euros.amount, euros.currency.as_str()), (1.5, "EUR"));
        let yuan = known.convert(&euros, "CNY").unwrap();
        assert!((yuan.amount - 3.0 * 7.0197).abs() < 1e-9, "{yuan:?}");
        let error = known.convert(&euros, "XAU").unwrap_err().to_string();
        assert!(error.contains("no exchange rate of XAU"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_line() {
        let cases = [
            (
                "peak_tflops = 900",
                "peak_tflops = -1",
                "line 1: peak_tflops: expected a number above zero, found -1",
            ),
            ("2026-01-01", "January", "as_of: expected a day"),
            ("\"measured\"", "\" \"", "source: expected where"),
            ("\"H100\"", "\"here\"", "cannot be the name"),
            ("\"cny\"", "\"yuan\"", "line 9: \"yuan\" is not a currency"),
            ("title", "titel", "line 3: unknown field `titel`"),
            ("per_usd = 0.5", "per_usd = nan", "line 15: per_usd"),
        ];
        for (old, new, expected) in cases {
            let error = parse(&OWN.replacen(old, new, 1), "own.toml").unwrap_err().to_string();
            assert!(error.starts_with("accelerators own.toml, line ") && error.contains(expected), "{error}");
        }
    }
}
