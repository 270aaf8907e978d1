//! Instructions whose keeping a program can verify, each with something to talk about.

use super::checks::Check;
use super::draw::Draw;
use super::task::Document;

const ENGLISH_TOPICS: [&str; 16] = [
    "Describe the sea.",
    "What is a bicycle for?",
    "Describe your favorite season.",
    "Why do people read books?",
    "What does a doctor do?",
    "Describe a cat.",
    "How does one make tea?",
    "What is a library?",
    "Describe a rainy day.",
    "Why is sleep important?",
    "What do bees do?",
    "Describe a mountain.",
    "What is music?",
    "Why do we need trees?",
    "Describe a birthday party.",
    "What is a computer?",
];

const CHINESE_TOPICS: [&str; 16] = [
    "描写一下大海。",
    "自行车有什么用？",
    "你喜欢哪个季节？",
    "人们为什么读书？",
    "医生是做什么的？",
    "描写一只猫。",
    "怎样泡茶？",
    "什么是图书馆？",
    "描写一个下雨天。",
    "睡眠为什么重要？",
    "蜜蜂会做什么？",
    "描写一座高山。",
    "什么是音乐？",
    "我们为什么需要树木？",
    "描写一次生日聚会。",
    "什么是电脑？",
];

/// `n` different pairs of a topic and an instruction.
pub(crate) fn english(draw: &mut Draw, n: usize) -> Vec<Document> {
    pairs(draw, &ENGLISH_TOPICS, n, |draw, idx| {
        let number = draw.between(3, 8) as usize;
        let word = (*draw.of(&["indeed", "perhaps", "today", "simply", "always", "together"])).to_owned();
        match idx % 12 {
            0 => ("Answer in lower case letters only.".to_owned(), Check::Lowercase),
            1 => ("Answer in capital letters only.".to_owned(), Check::Uppercase),
            2 => (format!("Answer in exactly {number} words."), Check::Words { exactly: number }),
            3 => (format!("Use the word \"{word}\" in your answer."), Check::Contains { text: word }),
            4 => ("Do not use any comma.".to_owned(), Check::Lacks { text: ",".to_owned() }),
            5 => ("Do not use the word \"the\".".to_owned(), Check::Lacks { text: " the ".to_owned() }),
            6 => {
                let end = "That is all.".to_owned();
                (format!("End your answer with the words \"{end}\""), Check::EndsWith { text: end })
            }
            7 => {
                let begin = "Well,".to_owned();
                (format!("Begin your answer with \"{begin}\""), Check::StartsWith { text: begin })
            }
            8 => (
                "Answer with a JSON object that has the one key \"answer\", and nothing else.".to_owned(),
                Check::Json { keys: vec!["answer".to_owned()] },
            ),
            9 => ("Answer in Chinese.".to_owned(), Check::Chinese),
            10 => (format!("Answer in exactly {number} lines."), Check::Lines { exactly: number }),
            _ => ("Put your whole answer in double quotation marks.".to_owned(), Check::Quoted),
        }
    })
}

/// `n` different pairs of a topic and an instruction.
pub(crate) fn chinese(draw: &mut Draw, n: usize) -> Vec<Document> {
    pairs(draw, &CHINESE_TOPICS, n, |draw, idx| {
        let number = draw.between(4, 12) as usize;
        let word = (*draw.of(&["的确", "也许", "今天", "总是", "一起", "当然"])).to_owned();
        match idx % 10 {
            0 => ("请用中文回答。".to_owned(), Check::Chinese),
            1 => ("请用英文回答。".to_owned(), Check::English),
            2 => (format!("请恰好用{number}个汉字回答。"), Check::Characters { exactly: number }),
            3 => (format!("回答中要用到“{word}”这个词。"), Check::Contains { text: word }),
            4 => ("回答中不要出现逗号。".to_owned(), Check::Lacks { text: "，".to_owned() }),
            5 => ("回答中不要出现“的”字。".to_owned(), Check::Lacks { text: "的".to_owned() }),
            6 => {
                let end = "回答完毕。".to_owned();
                (format!("请以“{end}”结尾。"), Check::EndsWith { text: end })
            }
            7 => ("请以“好的，”开头。".to_owned(), Check::StartsWith { text: "好的，".to_owned() }),
            8 => (
                "只用一个 JSON 对象回答，它只有一个键 \"answer\"。".to_owned(),
                Check::Json { keys: vec!["answer".to_owned()] },
            ),
            _ => {
                let lines = number.min(6);
                (format!("请恰好用{lines}行回答。"), Check::Lines { exactly: lines })
            }
        }
    })
}

fn pairs(
    draw: &mut Draw,
    topics: &[&str],
    n: usize,
    instruction: impl Fn(&mut Draw, usize) -> (String, Check),
) -> Vec<Document> {
    let mut documents: Vec<Document> = Vec::with_capacity(n);
    while documents.len() < n {
        let (words, check) = instruction(draw, documents.len());
        let question = format!("{} {words}", draw.of(topics));
        if !documents.iter().any(|document| document.question() == question) {
            documents.push(Document::Generation { question, answers: vec![], checks: vec![check] });
        }
    }
    documents
}
