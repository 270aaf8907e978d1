//! What a server that starts anew knows of jobs that it did not see end.

use serde_json::json;
use store::{JobId, JobStatus, JobWish};

use crate::world::{UNTIL_INTERRUPTED, kill, shell, until, world, write};

#[tokio::test]
async fn a_running_job_is_found_again_and_obeys() {
    let mut world = world().await;
    let id = world.order(UNTIL_INTERRUPTED).await;
    world.until_printed(id, "begun").await;
    let before = world.process(id, "command");
    world.restart(async |_| {}).await;
    assert_eq!(world.job(id).await.status, JobStatus::Running);
    assert_eq!(world.process(id, "command"), before);
    assert!(before.is_alive());
    world.jobs.interrupt(world.owner, id, JobWish::Pause).await.unwrap();
    let job = world.until(id, JobStatus::Paused).await;
    assert_eq!((job.n_starts, job.exit_code), (1, Some(130)));
}

#[tokio::test]
async fn an_end_that_nobody_saw_is_known_from_the_folder() {
    let mut world = world().await;
    let id = JobId::new();
    let flag = world.jobs.folder(id).join("go");
    // `$0` of the script is what stands behind it.
    let mut command = shell("while [ ! -e \"$0\" ]; do sleep 0.05; done; echo seen; exit 6");
    command.push(flag.to_str().unwrap().to_owned());
    world.order_command(id, command).await;
    until(|| world.jobs.usage(id).is_some()).await;
    world
        .restart(async |world| {
            std::fs::write(&flag, "").unwrap();
            until(|| world.jobs.folder(id).join("exit.json").exists()).await;
            assert_eq!(world.job(id).await.status, JobStatus::Running, "nobody has looked yet");
        })
        .await;
    let job = world.until(id, JobStatus::Failed).await;
    assert_eq!((job.exit_code, job.reason.as_deref()), (Some(6), Some("seen")));
}

#[tokio::test]
async fn what_was_killed_with_its_wrapper_is_lost() {
    let mut world = world().await;
    let id = world.order(UNTIL_INTERRUPTED).await;
    world.until_printed(id, "begun").await;
    world
        .restart(async |world| {
            kill(&world.process(id, "wrapper"));
            kill(&world.process(id, "command"));
        })
        .await;
    let job = world.until(id, JobStatus::Lost).await;
    assert!(job.reason.unwrap().contains("has not said how it ended"));
    assert_eq!(job.exit_code, None);
}

#[tokio::test]
async fn a_command_whose_wrapper_alone_was_killed_is_still_running() {
    let world = world().await;
    let id = world.order(UNTIL_INTERRUPTED).await;
    world.until_printed(id, "begun").await;
    kill(&world.process(id, "wrapper"));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(world.job(id).await.status, JobStatus::Running);
    world.jobs.interrupt(world.owner, id, JobWish::Pause).await.unwrap();
    // It has saved, but nobody was there to note its code.
    world.until(id, JobStatus::Lost).await;
    assert!(world.printed(id).contains("saved"));
}

#[tokio::test]
async fn after_a_restart_of_the_machine_another_process_with_its_pid_is_left_alone() {
    let mut world = world().await;
    let id = world.order(UNTIL_INTERRUPTED).await;
    world.until_printed(id, "begun").await;
    let stranger = world.process(id, "command");
    world
        .restart(async |world| {
            let mut processes = world.processes(id);
            for which in ["wrapper", "command"] {
                processes[which]["boot"] = json!("another");
            }
            write(&world.jobs.folder(id).join("process.json"), &processes);
        })
        .await;
    world.until(id, JobStatus::Lost).await;
    assert!(stranger.is_alive(), "it was not ours to end");
    kill(&stranger);
}

#[tokio::test]
async fn a_wish_to_pause_outlives_the_server_that_took_it_and_is_told_once() {
    let mut world = world().await;
    // Saving takes a while, and a second interruption would cut it off.
    let slow =
        "trap 'sleep 1; echo saved; exit 130' INT; echo begun; for n in $(seq 1800); do sleep 0.05; done";
    let id = world.order(slow).await;
    world.until_printed(id, "begun").await;
    world.jobs.interrupt(world.owner, id, JobWish::Pause).await.unwrap();
    until(|| world.jobs.folder(id).join("interrupted").exists()).await;
    world.restart(async |_| {}).await;
    let job = world.until(id, JobStatus::Paused).await;
    assert_eq!(job.exit_code, Some(130));
    assert!(world.printed(id).contains("saved"));
}

#[tokio::test]
async fn a_job_that_waited_gets_its_turn_after_the_restart() {
    let mut world = world().await;
    let first = world.order(UNTIL_INTERRUPTED).await;
    let second = world.order("echo second").await;
    world.until_printed(first, "begun").await;
    world.restart(async |_| {}).await;
    assert_eq!(world.job(second).await.status, JobStatus::Queued);
    world.jobs.interrupt(world.owner, first, JobWish::Stop).await.unwrap();
    world.until(second, JobStatus::Done).await;
}
