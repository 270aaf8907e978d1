//! How a command ends, and what becomes of its job.

use std::time::Duration;

use jobs::JobsError;
use store::{JobId, JobStatus, JobWish, OwnerId};

use crate::NICENESS;
use crate::world::{STUBBORN, UNTIL_INTERRUPTED, kill, shell, world, world_with};

#[tokio::test]
async fn a_command_runs_apart_from_us_and_its_end_is_noted() {
    let world = world().await;
    let id =
        world.order("echo session $(cut -d' ' -f6 /proc/$$/stat); echo niceness $(nice); echo done").await;
    let job = world.until(id, JobStatus::Done).await;
    assert_eq!((job.exit_code, job.reason, job.n_starts), (Some(0), None, 1));
    assert!(job.started_at >= Some(job.created_at) && job.ended_at >= job.started_at);
    let printed = world.printed(id);
    let value = |what: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(what)).unwrap().trim();
        line.parse::<i32>().unwrap()
    };
    assert_eq!(value("session"), world.process(id, "wrapper").pid, "a session of its own");
    assert!(value("niceness") >= NICENESS, "{printed}");
    assert_eq!(world.jobs.usage(id), None);
}

#[tokio::test]
async fn a_command_that_fails_says_why_with_its_last_line() {
    let world = world_with(|config| config.max_running = 4).await;
    let failed = world.order("echo working; echo 'broken: file 7' >&2; exit 3").await;
    let silent = world.order("exec >/dev/null 2>&1; exit 4").await;
    let crashed = world.order("kill -SEGV $$").await;
    let job = world.until(failed, JobStatus::Failed).await;
    assert_eq!((job.exit_code, job.reason.as_deref()), (Some(3), Some("broken: file 7")));
    assert_eq!(world.until(silent, JobStatus::Failed).await.exit_code, Some(4));
    let job = world.until(crashed, JobStatus::Failed).await;
    assert_eq!((job.exit_code, job.reason.as_deref()), (None, Some("its process was ended by signal 11")));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let world = world().await;
    let command = vec!["/nonexistent/program".to_owned()];
    let id = world.order_command(JobId::new(), command).await;
    let job = world.until(id, JobStatus::Failed).await;
    assert_eq!(job.exit_code, Some(127));
    assert!(job.reason.unwrap().contains("/nonexistent/program"));
}

#[tokio::test]
async fn a_job_pauses_goes_on_with_another_command_and_is_done() {
    let world = world().await;
    let id = world.order(UNTIL_INTERRUPTED).await;
    world.until_printed(id, "begun").await;
    let usage = world.jobs.usage(id).unwrap();
    assert!(usage.memory_bytes > 0);
    let asked = world.jobs.interrupt(world.owner, id, JobWish::Pause).await.unwrap();
    assert_eq!((asked.status, asked.wish), (JobStatus::Ending, Some(JobWish::Pause)));
    let paused = world.until(id, JobStatus::Paused).await;
    assert_eq!((paused.exit_code, paused.reason, paused.wish), (Some(130), None, None));
    world.jobs.resume(world.owner, id, shell("echo second")).await.unwrap();
    let done = world.until(id, JobStatus::Done).await;
    assert_eq!((done.n_starts, done.exit_code), (2, Some(0)));
    let printed = world.printed(id);
    assert!(printed.find("saved") < printed.find("second"), "{printed}");
    let again = world.jobs.resume(world.owner, id, shell("true")).await;
    assert!(matches!(again, Err(JobsError::Conflict { code: "not_resumable", .. })), "{again:?}");
}

#[tokio::test]
async fn a_job_that_is_stopped_counts_as_ended_and_may_go_on_all_the_same() {
    let world = world().await;
    let id = world.order(UNTIL_INTERRUPTED).await;
    world.until_printed(id, "begun").await;
    // Who pauses may change their mind before it has ended.
    world.jobs.interrupt(world.owner, id, JobWish::Pause).await.unwrap();
    world.jobs.interrupt(world.owner, id, JobWish::Stop).await.unwrap();
    world.until(id, JobStatus::Stopped).await;
    let again = world.jobs.interrupt(world.owner, id, JobWish::Pause).await;
    assert!(matches!(again, Err(JobsError::Conflict { code: "not_running", .. })), "{again:?}");
    world.jobs.resume(world.owner, id, shell("true")).await.unwrap();
    world.until(id, JobStatus::Done).await;
}

#[tokio::test]
async fn a_command_that_does_not_end_when_it_is_asked_to_is_killed_in_the_end() {
    let world = world_with(|config| config.end_limit = Duration::from_millis(300)).await;
    let id = world.order(STUBBORN).await;
    world.until_printed(id, "begun").await;
    world.jobs.interrupt(world.owner, id, JobWish::Pause).await.unwrap();
    let job = world.until(id, JobStatus::Paused).await;
    assert!(job.reason.unwrap().ends_with("was killed"));
    assert!(!world.process(id, "command").is_alive());
}

#[tokio::test]
async fn a_command_that_is_killed_is_lost_and_may_go_on() {
    let world = world().await;
    let id = world.order(UNTIL_INTERRUPTED).await;
    world.until_printed(id, "begun").await;
    kill(&world.process(id, "command"));
    let job = world.until(id, JobStatus::Lost).await;
    assert!(job.reason.unwrap().contains("signal 9"));
    world.jobs.resume(world.owner, id, shell("true")).await.unwrap();
    assert_eq!(world.until(id, JobStatus::Done).await.reason, None);
}

#[tokio::test]
async fn a_disk_without_room_is_said_before_anything_is_begun() {
    let world = world_with(|config| config.min_free_bytes = u64::MAX).await;
    let id = world.order("echo never").await;
    let job = world.until(id, JobStatus::Failed).await;
    assert!(job.reason.unwrap().starts_with("no space left"));
    assert_eq!((job.n_starts, world.printed(id)), (0, String::new()));
}

#[tokio::test]
async fn a_job_is_deleted_with_its_folder_but_not_while_it_is_going() {
    let world = world().await;
    let id = world.order(UNTIL_INTERRUPTED).await;
    world.until_printed(id, "begun").await;
    let refused = world.jobs.remove(world.owner, id).await;
    assert!(matches!(refused, Err(JobsError::Conflict { code: "still_running", .. })), "{refused:?}");
    let stranger = OwnerId::new();
    assert!(world.jobs.get(stranger, id).await.is_err());
    assert!(world.jobs.interrupt(stranger, id, JobWish::Stop).await.is_err());
    assert_eq!(world.jobs.list(stranger).await.unwrap(), []);
    world.jobs.interrupt(world.owner, id, JobWish::Stop).await.unwrap();
    world.until(id, JobStatus::Stopped).await;
    assert!(world.jobs.remove(stranger, id).await.is_err());
    assert!(world.jobs.folder(id).exists());
    world.jobs.remove(world.owner, id).await.unwrap();
    assert!(!world.jobs.folder(id).exists());
    assert!(world.jobs.get(world.owner, id).await.is_err());
}

#[tokio::test]
async fn a_command_hears_that_it_is_to_end_also_where_the_server_would_not() {
    // As a script does with what it starts in the background.
    let deaf = ["env", "--ignore-signal=INT", "--ignore-signal=TERM"];
    let world = world_with(|config| drop(config.wrapper.splice(0..0, deaf.map(Into::into)))).await;
    let paused = world.order(UNTIL_INTERRUPTED).await;
    world.until_printed(paused, "begun").await;
    world.jobs.interrupt(world.owner, paused, JobWish::Pause).await.unwrap();
    assert_eq!(world.until(paused, JobStatus::Paused).await.exit_code, Some(130));
    // Wrapper and command are told to end by the system, and the wrapper still tells of it.
    let ended = world.order(UNTIL_INTERRUPTED).await;
    world.until_printed(ended, "begun").await;
    for which in ["wrapper", "command"] {
        assert!(world.process(ended, which).signal(rustix::process::Signal::TERM).unwrap());
    }
    let job = world.until(ended, JobStatus::Lost).await;
    assert!(job.reason.unwrap().contains("signal 15"));
}
