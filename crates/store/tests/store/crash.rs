//! `kill -9`: what was acknowledged is there.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use store::{Event, EventBody, MessageId, Part, Status, Store, StoreConfig};

use crate::databases::{finished, fresh_schema, turn};

const DIR: &str = "DAYBREAK_TEST_CRASH_DIR";
const URL: &str = "DAYBREAK_TEST_CRASH_URL";

/// The child: writes turns and events as fast as it can and says, after each, what has been acknowledged.
#[tokio::test]
#[ignore = "run by the crash tests as their child process"]
async fn child_that_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let config = StoreConfig { data_dir: dir.into(), database_url: std::env::var(URL).ok() };
    let store = Store::open(config).await.unwrap();
    store.recover().await.unwrap();
    let owner = store.local_owner();
    let id = store.create_conversation(owner, store::NewConversation::default()).await.unwrap().id;
    // Past the harness's own printing; whole lines, because the parent reads up to the kill.
    let mut out = std::io::stdout();
    let mut parent = None;
    for n in 0_u64.. {
        let saved = store.begin_turn(owner, id, turn(parent, &format!("message {n}"))).await.unwrap();
        writeln!(out, "user {} message {n}", saved.user.id).unwrap();
        for seq in 1..=3 {
            let event = Event { seq, body: EventBody::Text(format!("word {seq} ")) };
            store.append_events(owner, saved.answer.id, vec![event]).await.unwrap();
            writeln!(out, "event {} {seq}", saved.answer.id).unwrap();
        }
        store.finish_answer(owner, saved.answer.id, finished(&format!("answer {n}"))).await.unwrap();
        writeln!(out, "answer {} answer {n}", saved.answer.id).unwrap();
        parent = Some(saved.answer.id);
    }
}

/// Runs the child for this long, kills it, and returns the acknowledged lines.
fn run_and_kill(config: &StoreConfig, after: Duration) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "crash::child_that_writes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(DIR, &config.data_dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(url) = &config.database_url {
        command.env(URL, url);
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("user "));
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
    std::thread::sleep(after);
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    first.into_iter().chain(reader.join().unwrap()).collect()
}

async fn everything_acknowledged_is_there(config: StoreConfig) {
    let mut n_lines = 0;
    for round in 0..5_u32 {
        // Different moments without a random number: the machine's own unsteadiness does the rest.
        let acknowledged = run_and_kill(&config, Duration::from_millis(u64::from(37 + round * 61)));
        let start = Instant::now();
        let store = Store::open(config.clone()).await.unwrap();
        store.recover().await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "reopening took {:?}", start.elapsed());
        let owner = store.local_owner();
        for line in &acknowledged {
            let mut words = line.splitn(3, ' ');
            let (kind, id, what) =
                (words.next().unwrap(), words.next().unwrap_or(""), words.next().unwrap_or(""));
            let Ok(id) = id.parse::<MessageId>() else { continue }; // the harness's own lines
            let message = store.message(owner, id).await.unwrap_or_else(|e| panic!("{line}: {e}"));
            let text = message.parts.iter().map(Part::text).collect::<String>();
            match kind {
                "user" | "answer" => assert_eq!(text, what, "{line}"),
                "event" if message.status == Status::Stopped => {
                    let seq: u64 = what.parse().unwrap();
                    assert!(text.contains(&format!("word {seq} ")), "{line}: {text}");
                    assert!(message.last_seq >= seq, "{line}");
                }
                _ => assert_eq!(message.status, Status::Complete, "{line}"),
            }
            n_lines += 1;
        }
        store.close().await.unwrap();
    }
    println!("{n_lines} acknowledgements, all there");
    assert!(n_lines > 20, "the child wrote too little to say anything: {n_lines}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { data_dir: dir.path().to_owned(), database_url: None };
    everything_acknowledged_is_there(config).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_on_postgres() {
    let Some(url) = fresh_schema().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { data_dir: dir.path().to_owned(), database_url: Some(url) };
    everything_acknowledged_is_there(config).await;
}
