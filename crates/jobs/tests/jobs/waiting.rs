//! The queue.

use store::{JobStatus, JobWish};

use crate::world::{UNTIL_INTERRUPTED, shell, world};

#[tokio::test]
async fn one_runs_at_a_time_and_the_others_follow_in_their_order() {
    let world = world().await;
    let first = world.order(UNTIL_INTERRUPTED).await;
    let second = world.order(UNTIL_INTERRUPTED).await;
    let third = world.order("echo third").await;
    let fourth = world.order("echo fourth").await;
    world.until_printed(first, "begun").await;
    assert_eq!(world.job(second).await.status, JobStatus::Queued);
    // What waits is paused and stopped at once, and waits anew at the end of the queue.
    world.jobs.interrupt(world.owner, second, JobWish::Pause).await.unwrap();
    assert_eq!(world.job(second).await.status, JobStatus::Paused);
    world.jobs.resume(world.owner, second, shell("echo second")).await.unwrap();
    world.jobs.interrupt(world.owner, fourth, JobWish::Stop).await.unwrap();
    world.jobs.interrupt(world.owner, first, JobWish::Pause).await.unwrap();
    let second = world.until(second, JobStatus::Done).await;
    let third = world.until(third, JobStatus::Done).await;
    assert!(third.ended_at <= second.started_at, "{third:?} {second:?}");
    let fourth = world.job(fourth).await;
    assert_eq!((fourth.status, fourth.n_starts), (JobStatus::Stopped, 0));
    assert_eq!(world.job(first).await.status, JobStatus::Paused);
}
