//! Search over titles and messages, in Chinese and English.

use std::time::{Duration, Instant};

use serde_json::json;
use store::{ConversationChange, ListQuery, NewConversation};

use crate::databases::{Fresh, on_both};

async fn find(fresh: &Fresh, search: &str) -> Vec<(String, Option<String>)> {
    let query = ListQuery { search: Some(search.to_owned()), limit: 50, before: None };
    let page = fresh.store.list_conversations(fresh.store.local_owner(), query).await.unwrap();
    page.items.into_iter().map(|item| (item.conversation.title, item.snippet)).collect()
}

async fn titles(fresh: &Fresh, search: &str) -> Vec<String> {
    find(fresh, search).await.into_iter().map(|(title, _)| title).collect()
}

async fn talk(fresh: &Fresh, title: &str, text: &str, answer: &str) {
    let owner = fresh.store.local_owner();
    let new = NewConversation { title: Some(title.to_owned()), ..Default::default() };
    let id = fresh.store.create_conversation(owner, new).await.unwrap().id;
    fresh.say_and_hear(id, None, text, answer).await;
}

on_both! {
    async fn pieces_of_words_are_found_in_both_languages(fresh: Fresh) {
        talk(&fresh, "旅行计划", "我们下周去北京看长城，天气怎么样？", "北京下周晴朗，适合出行。").await;
        talk(&fresh, "Rust questions", "How do lifetimes work in C++ and Rust?", "A lifetime names a region.").await;
        talk(&fresh, "ＡＢＣ Company", "Über uns: 100% naïve_text", "ok 'quoted' \"text\"").await;
        let cases: &[(&str, &[&str])] = &[
            ("北京", &["旅行计划"]),
            ("城", &["旅行计划"]),
            ("天气怎么样", &["旅行计划"]),
            ("旅行", &["旅行计划"]),
            ("北京 长城", &["旅行计划"]),
            ("京北", &[]),
            ("lifetime", &["Rust questions"]),
            ("FETIME", &["Rust questions"]),
            ("rust c++", &["Rust questions"]),
            ("ru", &["Rust questions"]),
            ("abc", &["ＡＢＣ Company"]),
            ("über", &["ＡＢＣ Company"]),
            ("100%", &["ＡＢＣ Company"]),
            ("e_t", &["ＡＢＣ Company"]),
            ("'quoted' \"te", &["ＡＢＣ Company"]),
            ("nothing such", &[]),
            ("%", &["ＡＢＣ Company"]),
            ("😀", &[]),
        ];
        let mut wrong = Vec::new();
        for (search, expected) in cases {
            let found = titles(&fresh, search).await;
            if found != *expected {
                wrong.push(format!("{search}: expected {expected:?}, found {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

on_both! {
    async fn hostile_searches_find_nothing_and_fail_nowhere(fresh: Fresh) {
        talk(&fresh, "a", "b", "c").await;
        for search in ["' OR 1=1 --", "\" AND NEAR(", "*", "g00000000", "{1,2}", "\0", "\\", "((((", &"长".repeat(5000)] {
            assert_eq!(titles(&fresh, search).await, Vec::<String>::new(), "{search}");
        }
        let blank = titles(&fresh, "  \t ").await;
        assert_eq!(blank, ["a"], "a blank search is no search");
    }
}

on_both! {
    async fn snippets_show_where_the_text_stands(fresh: Fresh) {
        let long = format!("{}the Needle\n  is here {}", "hay ".repeat(500), "hay ".repeat(500));
        talk(&fresh, "barn", &long, "no").await;
        let found = find(&fresh, "needle").await;
        let snippet = found[0].1.clone().unwrap();
        assert!(snippet.contains("the Needle is here hay") && snippet.starts_with('…'), "{snippet}");
        assert!(snippet.chars().count() < 110, "{snippet}");
        assert_eq!(find(&fresh, "barn").await, [("barn".to_owned(), None)]);
        // Where it stands can be opened.
        let owner = fresh.store.local_owner();
        for (search, expected) in [("needle", Some("the Needle")), ("barn", None)] {
            let query = ListQuery { search: Some(search.to_owned()), limit: 50, before: None };
            let hit = fresh.store.list_conversations(owner, query).await.unwrap().items.remove(0);
            let text = match hit.message_id {
                Some(id) => Some(fresh.store.message(owner, id).await.unwrap().parts[0].text().to_owned()),
                None => None,
            };
            assert_eq!(text.is_some(), expected.is_some(), "{search}");
            assert!(text.is_none_or(|text| text.contains(expected.unwrap())), "{search}");
        }
    }
}

on_both! {
    async fn a_new_title_is_found_and_the_old_one_is_not(fresh: Fresh) {
        let owner = fresh.store.local_owner();
        let new = NewConversation { title: Some("before".to_owned()), ..Default::default() };
        let id = fresh.store.create_conversation(owner, new).await.unwrap().id;
        let change = ConversationChange { title: Some("after".into()), ..Default::default() };
        fresh.store.update_conversation(owner, id, change).await.unwrap();
        assert_eq!(titles(&fresh, "before").await, Vec::<String>::new());
        assert_eq!(titles(&fresh, "after").await, ["after"]);
    }
}

on_both! {
    async fn three_thousand_conversations_are_searched_quickly(fresh: Fresh) {
        let owner = fresh.store.local_owner();
        let words = ["river", "mountain", "compiler", "kernel", "garden", "音乐", "数学", "天气", "学习", "城市"];
        let conversations: Vec<_> = (0..3000_usize)
            .map(|n| {
                let text = |k: usize| -> String {
                    (0..60).map(|i| format!("{} {} ", words[(n * 7 + i * k) % 10], n * 31 + i)).collect()
                };
                let mut parts = text(3);
                if n % 1000 == 17 {
                    parts.push_str("关键的线索 a rare clue");
                }
                json!({"title": format!("talk {n}"), "created_at": n, "updated_at": n, "messages": [
                    {"id": "a", "role": "user", "parts": [{"type": "text", "text": parts}]},
                    {"id": "b", "parent_id": "a", "role": "assistant", "parts": [{"type": "text", "text": text(9)}]},
                ]})
            })
            .collect();
        let file = json!({"format": store::EXPORT_FORMAT, "version": 1, "conversations": conversations});
        let start = Instant::now();
        assert_eq!(fresh.store.import(owner, &file).await.unwrap(), 3000);
        println!("import of 3000 conversations: {:?}", start.elapsed());
        for (search, n) in [("线索", 3), ("rare clue", 3), ("天气", 50), ("mountain", 50), ("zzz", 0), ("线", 3)] {
            let start = Instant::now();
            let found = titles(&fresh, search).await;
            let took = start.elapsed();
            println!("{search}: {} in {took:?}", found.len());
            assert_eq!(found.len(), n, "{search}");
            // Measured 2 to 60 ms; the bound leaves room for a busy machine.
            assert!(took < Duration::from_secs(1), "{search} took {took:?}");
        }
    }
}
