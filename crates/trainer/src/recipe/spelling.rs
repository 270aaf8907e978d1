//! Words letter by letter: common ones, and ones that nobody has heard before.

use super::{Language, Lesson, is_test};

/// Common English words.
const WORDS: &str = "\
    able about above across action after again agree animal answer apple autumn balance basket beach beauty because become \
    before begin behind believe below better between bicycle blanket blossom bottle branch bread bridge bright bring brother \
    bucket build butter button camera candle carpet castle center chair change cheese cherry chicken child circle city clean \
    clear clever climb clock cloud coffee color common copper corner cotton country cover create crystal culture curtain \
    dance danger daughter dawn decide deep desert design dinner direct distance doctor dolphin dragon dream drink early earth \
    eastern effort eight elbow enough evening every evidence example family famous farmer father feather field figure finger \
    finish flower follow forest forget fortune forward freedom friend front future garden gather gentle giant ginger glass \
    golden grammar grass green ground guitar hammer happy harbor harvest heavy hidden history honest honey horizon hotel \
    hundred hunter husband iceberg imagine important include insect inside island jacket jewel journey jungle justice kettle \
    kitchen knife knowledge ladder language laughter learn leather letter library listen little lizard lonely machine magnet \
    market marble meadow measure melody memory message middle mirror modern moment monkey morning mother mountain music \
    narrow nature needle neighbor nothing number object ocean office orange orchard outside owner paint palace paper parent \
    patient pattern peace pencil pepper people picture pillow planet plenty pocket poem police potato power present pretty \
    promise proper purple puzzle question quick quiet rabbit rainbow reader reason record region remember result ribbon river \
    rocket root round sailor salad sample sand school science season secret sentence seven shadow shelter silver simple singer \
    sister sleep smile smooth soldier special spider spirit spring square stable station stone storm story stream street \
    strong student sudden sugar summer sunset surface sweet table talent teacher temple thunder ticket tiger together tomato \
    tower travel treasure trouble tunnel turtle twelve umbrella uncle under valley vegetable village violin vision voice \
    voyage wagon walnut water weather weekend welcome western whisper window winter wisdom wonder wooden worker writer yellow \
    yesterday young zebra";

const ENGLISH: [&str; 5] = [
    "Spell the word {}.",
    "How do you spell {}?",
    "Please spell {}.",
    "Spell {} letter by letter.",
    "Which letters make the word {}?",
];
const CHINESE: [&str; 5] = [
    "请拼写单词 {}。",
    "单词 {} 怎么拼？",
    "请把 {} 一个字母一个字母地拼出来。",
    "{} 怎么拼写？",
    "{} 由哪些字母组成？",
];

/// The words, those for tests apart.
pub(super) fn words() -> (Vec<&'static str>, Vec<&'static str>) {
    WORDS.split_whitespace().partition(|word| !is_test(word, 7))
}

/// A word of two or three syllables, which may be one for tests.
pub(super) fn invented(random: &mut fastrand::Rng) -> String {
    let of = |random: &mut fastrand::Rng, parts: &[&'static str]| parts[random.usize(..parts.len())];
    let mut word = String::new();
    for _ in 0..random.usize(2..=3) {
        word += of(
            random,
            &[
                "b", "bl", "c", "ch", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pl",
                "qu", "r", "s", "sh", "st", "t", "th", "tr", "v", "w", "y", "z", "",
            ],
        );
        word += of(random, &["a", "e", "i", "o", "u", "ai", "ea", "ee", "oo", "ou"]);
        word += of(
            random,
            &["", "", "ck", "d", "l", "ll", "m", "n", "nd", "ng", "p", "r", "rk", "s", "st", "t", "x"],
        );
    }
    word
}

/// Whether an invented word is for tests only.
pub(super) fn is_kept(word: &str) -> bool {
    is_test(word, 7)
}

pub(super) fn question(language: Language, word: &str, way: usize) -> Lesson {
    let ways = match language {
        Language::English => &ENGLISH,
        Language::Chinese => &CHINESE,
    };
    Lesson::new(ways[way % ways.len()].replace("{}", word), letters(word))
}

/// `word` → `w-o-r-d`
pub(super) fn letters(word: &str) -> String {
    word.chars().map(String::from).collect::<Vec<String>>().join("-")
}
