//! The chemical elements from hydrogen to uranium: symbol, number and name, asked for in many ways.

use super::{Language, Lesson, is_test};

/// Symbol, English and Chinese name, by atomic number.
const ELEMENTS: [(&str, &str, &str); 92] = [
    ("H", "hydrogen", "氢"),
    ("He", "helium", "氦"),
    ("Li", "lithium", "锂"),
    ("Be", "beryllium", "铍"),
    ("B", "boron", "硼"),
    ("C", "carbon", "碳"),
    ("N", "nitrogen", "氮"),
    ("O", "oxygen", "氧"),
    ("F", "fluorine", "氟"),
    ("Ne", "neon", "氖"),
    ("Na", "sodium", "钠"),
    ("Mg", "magnesium", "镁"),
    ("Al", "aluminium", "铝"),
    ("Si", "silicon", "硅"),
    ("P", "phosphorus", "磷"),
    ("S", "sulfur", "硫"),
    ("Cl", "chlorine", "氯"),
    ("Ar", "argon", "氩"),
    ("K", "potassium", "钾"),
    ("Ca", "calcium", "钙"),
    ("Sc", "scandium", "钪"),
    ("Ti", "titanium", "钛"),
    ("V", "vanadium", "钒"),
    ("Cr", "chromium", "铬"),
    ("Mn", "manganese", "锰"),
    ("Fe", "iron", "铁"),
    ("Co", "cobalt", "钴"),
    ("Ni", "nickel", "镍"),
    ("Cu", "copper", "铜"),
    ("Zn", "zinc", "锌"),
    ("Ga", "gallium", "镓"),
    ("Ge", "germanium", "锗"),
    ("As", "arsenic", "砷"),
    ("Se", "selenium", "硒"),
    ("Br", "bromine", "溴"),
    ("Kr", "krypton", "氪"),
    ("Rb", "rubidium", "铷"),
    ("Sr", "strontium", "锶"),
    ("Y", "yttrium", "钇"),
    ("Zr", "zirconium", "锆"),
    ("Nb", "niobium", "铌"),
    ("Mo", "molybdenum", "钼"),
    ("Tc", "technetium", "锝"),
    ("Ru", "ruthenium", "钌"),
    ("Rh", "rhodium", "铑"),
    ("Pd", "palladium", "钯"),
    ("Ag", "silver", "银"),
    ("Cd", "cadmium", "镉"),
    ("In", "indium", "铟"),
    ("Sn", "tin", "锡"),
    ("Sb", "antimony", "锑"),
    ("Te", "tellurium", "碲"),
    ("I", "iodine", "碘"),
    ("Xe", "xenon", "氙"),
    ("Cs", "caesium", "铯"),
    ("Ba", "barium", "钡"),
    ("La", "lanthanum", "镧"),
    ("Ce", "cerium", "铈"),
    ("Pr", "praseodymium", "镨"),
    ("Nd", "neodymium", "钕"),
    ("Pm", "promethium", "钷"),
    ("Sm", "samarium", "钐"),
    ("Eu", "europium", "铕"),
    ("Gd", "gadolinium", "钆"),
    ("Tb", "terbium", "铽"),
    ("Dy", "dysprosium", "镝"),
    ("Ho", "holmium", "钬"),
    ("Er", "erbium", "铒"),
    ("Tm", "thulium", "铥"),
    ("Yb", "ytterbium", "镱"),
    ("Lu", "lutetium", "镥"),
    ("Hf", "hafnium", "铪"),
    ("Ta", "tantalum", "钽"),
    ("W", "tungsten", "钨"),
    ("Re", "rhenium", "铼"),
    ("Os", "osmium", "锇"),
    ("Ir", "iridium", "铱"),
    ("Pt", "platinum", "铂"),
    ("Au", "gold", "金"),
    ("Hg", "mercury", "汞"),
    ("Tl", "thallium", "铊"),
    ("Pb", "lead", "铅"),
    ("Bi", "bismuth", "铋"),
    ("Po", "polonium", "钋"),
    ("At", "astatine", "砹"),
    ("Rn", "radon", "氡"),
    ("Fr", "francium", "钫"),
    ("Ra", "radium", "镭"),
    ("Ac", "actinium", "锕"),
    ("Th", "thorium", "钍"),
    ("Pa", "protactinium", "镤"),
    ("U", "uranium", "铀"),
];

/// What can be asked for, given what: the ways to ask, `{}` being what is given, and the answer.
struct Relation {
    ways: &'static [&'static str],
    answer: &'static str,
    given: Fact,
    asked: Fact,
}

#[derive(Clone, Copy)]
enum Fact {
    Name,
    Symbol,
    Number,
}

const ENGLISH: [Relation; 4] = [
    Relation {
        given: Fact::Name,
        asked: Fact::Symbol,
        answer: "The symbol of {given} is {asked}.",
        ways: &[
            "What is the chemical symbol of {}?",
            "What is the symbol for {}?",
            "Which symbol does {} have?",
            "Tell me the symbol of {}.",
            "How is {} written in the periodic table?",
            "Please give me the symbol of {}.",
            "Which letters stand for {}?",
            "I forgot the symbol of {}. What is it?",
            "Could you tell me the chemical symbol of {}?",
            "By which symbol is {} known?",
        ],
    },
    Relation {
        given: Fact::Name,
        asked: Fact::Number,
        answer: "The atomic number of {given} is {asked}.",
        ways: &[
            "What is the atomic number of {}?",
            "Which atomic number does {} have?",
            "How many protons does an atom of {} have?",
            "Tell me the atomic number of {}.",
            "What number is {} in the periodic table?",
            "Please give me the atomic number of {}.",
            "At which place of the periodic table is {}?",
            "I forgot the atomic number of {}. What is it?",
            "Could you tell me the number of {}?",
            "How many protons are in {}?",
        ],
    },
    Relation {
        given: Fact::Symbol,
        asked: Fact::Name,
        answer: "{given} is the symbol of {asked}.",
        ways: &[
            "Which element has the symbol {}?",
            "What does {} stand for in chemistry?",
            "Which element is {}?",
            "The symbol {}: which element is that?",
            "Tell me which element {} stands for.",
            "What is the name of the element {}?",
            "Please name the element with the symbol {}.",
            "I read {} in a formula. Which element is it?",
            "Could you tell me what {} means in the periodic table?",
            "Whose symbol is {}?",
        ],
    },
    Relation {
        given: Fact::Number,
        asked: Fact::Name,
        answer: "Element number {given} is {asked}.",
        ways: &[
            "Which element has the atomic number {}?",
            "What is element number {}?",
            "Which element has {} protons?",
            "Tell me the name of element number {}.",
            "What comes at place {} of the periodic table?",
            "Please name the element with {} protons.",
            "Which element stands at number {}?",
            "An atom with {} protons: which element is it?",
            "Could you tell me which element number {} is?",
            "Whose atomic number is {}?",
        ],
    },
];

const CHINESE: [Relation; 4] = [
    Relation {
        given: Fact::Name,
        asked: Fact::Symbol,
        answer: "{given}的元素符号是 {asked}。",
        ways: &[
            "{}的元素符号是什么？",
            "{}的符号是什么？",
            "{}用什么符号表示？",
            "请告诉我{}的元素符号。",
            "在元素周期表里，{}怎么写？",
            "请写出{}的符号。",
            "哪个符号代表{}？",
            "我忘了{}的元素符号，是什么来着？",
            "你知道{}的化学符号吗？",
            "{}在化学式里写成什么？",
        ],
    },
    Relation {
        given: Fact::Name,
        asked: Fact::Number,
        answer: "{given}的原子序数是 {asked}。",
        ways: &[
            "{}的原子序数是多少？",
            "{}是第几号元素？",
            "一个{}原子有多少个质子？",
            "请告诉我{}的原子序数。",
            "{}排在元素周期表的第几位？",
            "请写出{}的原子序数。",
            "{}的序号是几？",
            "我忘了{}的原子序数，是多少来着？",
            "你知道{}是几号元素吗？",
            "{}有几个质子？",
        ],
    },
    Relation {
        given: Fact::Symbol,
        asked: Fact::Name,
        answer: "{given} 是{asked}的元素符号。",
        ways: &[
            "{} 是哪种元素？",
            "元素符号 {} 代表什么？",
            "哪种元素的符号是 {}？",
            "请告诉我 {} 表示哪种元素。",
            "在元素周期表里，{} 是什么？",
            "请说出符号为 {} 的元素。",
            "符号 {} 是什么元素？",
            "我在化学式里看到 {}，它是哪种元素？",
            "你知道 {} 是什么元素吗？",
            "{} 是谁的元素符号？",
        ],
    },
    Relation {
        given: Fact::Number,
        asked: Fact::Name,
        answer: "第 {given} 号元素是{asked}。",
        ways: &[
            "第 {} 号元素是什么？",
            "哪种元素的原子序数是 {}？",
            "有 {} 个质子的是哪种元素？",
            "请告诉我第 {} 号元素的名字。",
            "元素周期表的第 {} 位是什么？",
            "请说出原子序数为 {} 的元素。",
            "排在第 {} 位的是哪种元素？",
            "一个原子有 {} 个质子，它是什么元素？",
            "你知道第 {} 号元素是什么吗？",
            "原子序数 {} 属于哪种元素？",
        ],
    },
];

fn fact(fact: Fact, number: usize, language: Language) -> String {
    let (symbol, english, chinese) = ELEMENTS[number - 1];
    match (fact, language) {
        (Fact::Name, Language::English) => english.to_owned(),
        (Fact::Name, Language::Chinese) => chinese.to_owned(),
        (Fact::Symbol, _) => symbol.to_owned(),
        (Fact::Number, _) => number.to_string(),
    }
}

/// Every question with its answer, and whether it is a test: a fact is then asked for in a way that the lessons use for
/// other facts only.
pub(super) fn questions(language: Language) -> Vec<(Lesson, bool)> {
    let relations = match language {
        Language::English => &ENGLISH,
        Language::Chinese => &CHINESE,
    };
    let mut all = Vec::new();
    for relation in relations {
        for number in 1..=ELEMENTS.len() {
            let [given, asked] = [relation.given, relation.asked].map(|of| fact(of, number, language));
            let answer = relation.answer.replace("{given}", &given).replace("{asked}", &asked);
            for way in relation.ways {
                let lesson = Lesson::new(way.replace("{}", &given), capitalised(&answer));
                let is_test = is_test(&lesson.question, 6);
                all.push((lesson, is_test));
            }
        }
    }
    all
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// What is known of an element, as a text would say it.
pub(super) fn text(language: Language, number: usize, way: usize) -> String {
    let of = |what| fact(what, number, language);
    let (name, symbol) = (of(Fact::Name), of(Fact::Symbol));
    let next = (number < ELEMENTS.len()).then(|| fact(Fact::Name, number + 1, language));
    let text = match (language, way % 4) {
        (Language::English, 0) => {
            format!("{name} is a chemical element. Its symbol is {symbol} and its atomic number is {number}.")
        }
        (Language::English, 1) => {
            let next = next.map_or(String::new(), |next| format!(" It is followed by {next}."));
            format!("Element number {number} of the periodic table is {name}, written {symbol}.{next}")
        }
        (Language::English, 2) => {
            format!("The symbol {symbol} stands for {name}. An atom of {name} has {number} protons.")
        }
        (Language::English, _) => format!(
            "At place {number} of the periodic table we find {name}. In formulas {name} is written as {symbol}."
        ),
        (Language::Chinese, 0) => {
            format!("{name}是一种化学元素，元素符号是 {symbol}，原子序数是 {number}。")
        }
        (Language::Chinese, 1) => {
            let next = next.map_or(String::new(), |next| format!("它后面是{next}。"));
            format!("元素周期表的第 {number} 号元素是{name}，写作 {symbol}。{next}")
        }
        (Language::Chinese, 2) => format!("符号 {symbol} 代表{name}。一个{name}原子有 {number} 个质子。"),
        (Language::Chinese, _) => {
            format!("排在元素周期表第 {number} 位的是{name}，在化学式里写成 {symbol}。")
        }
    };
    capitalised(&text)
}

/// How many elements there are.
pub(super) const N_ELEMENTS: usize = ELEMENTS.len();
