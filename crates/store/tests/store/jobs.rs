//! Jobs as records: whose they are, how they move, and who moves them first.

use serde_json::json;
use store::{JobId, JobMove, JobStatus, JobWish, NewJob, OwnerId, StoreError};

use crate::databases::{Fresh, on_both};

impl Fresh {
    async fn job(&self, name: &str) -> store::Job {
        let command = ["daybreak", "train", "第一本书.txt"].map(str::to_owned).to_vec();
        let new = NewJob {
            place: "here".to_owned(),
            name: name.to_owned(),
            purpose: json!({"kind": "training", "n": 7}),
            command,
        };
        self.store.create_job(self.store.local_owner(), JobId::new(), new).await.unwrap()
    }

    async fn moved(&self, id: JobId, from: &[JobStatus], to: JobMove) -> Option<store::Job> {
        self.store.move_job(self.store.local_owner(), id, from, to).await.unwrap()
    }
}

fn end(status: JobStatus, reason: Option<&str>) -> JobMove {
    JobMove::End { status, reason: reason.map(str::to_owned), exit_code: Some(130) }
}

on_both! {
    async fn a_job_goes_from_the_queue_to_its_end_and_back(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let made = fresh.job("  my\nfirst model ").await;
        assert_eq!((made.name.as_str(), made.status, made.n_starts), ("my first model", JobStatus::Queued, 0));
        assert_eq!(store.job(owner, made.id).await.unwrap(), made);

        let started = fresh.moved(made.id, &[JobStatus::Queued], JobMove::Start).await.unwrap();
        assert_eq!((started.status, started.n_starts), (JobStatus::Running, 1));
        assert!(started.started_at >= Some(made.created_at));
        // Who comes second changes nothing.
        assert_eq!(fresh.moved(made.id, &[JobStatus::Queued], JobMove::Start).await, None);
        assert_eq!(store.job(owner, made.id).await.unwrap(), started);

        let asked = fresh.moved(made.id, &[JobStatus::Running], JobMove::Ask(JobWish::Pause)).await.unwrap();
        assert_eq!((asked.status, asked.wish), (JobStatus::Ending, Some(JobWish::Pause)));
        let again = fresh.moved(made.id, &[JobStatus::Ending], JobMove::Ask(JobWish::Stop)).await.unwrap();
        assert_eq!((again.wish, again.wished_at), (Some(JobWish::Stop), asked.wished_at), "since the first time");
        let long = format!("no\0{}", "长".repeat(5000));
        let ended = fresh.moved(made.id, &[JobStatus::Ending], end(JobStatus::Stopped, Some(&long))).await.unwrap();
        assert_eq!((ended.status, ended.wish, ended.exit_code), (JobStatus::Stopped, None, Some(130)));
        assert_eq!(ended.reason.unwrap().chars().count(), 1000);
        assert!(ended.ended_at.is_some());

        let command = vec!["daybreak".to_owned(), "train".to_owned(), "resume".to_owned()];
        let queue = JobMove::Queue { command: command.clone() };
        let queued = fresh.moved(made.id, &[JobStatus::Stopped], queue).await.unwrap();
        assert_eq!((queued.status, &queued.command, queued.n_starts), (JobStatus::Queued, &command, 1));
        assert_eq!((queued.reason, queued.exit_code, queued.ended_at), (None, None, None));
    }
}

on_both! {
    async fn of_two_who_start_a_job_one_does(fresh: Fresh) {
        for _ in 0..10 {
            let id = fresh.job("job").await.id;
            let queued = [JobStatus::Queued];
            let start = || fresh.moved(id, &queued, JobMove::Start);
            let all = tokio::join!(start(), start(), start(), start());
            let started = [all.0, all.1, all.2, all.3].into_iter().flatten().count();
            assert_eq!(started, 1);
        }
    }
}

on_both! {
    async fn the_queue_is_everyones_and_all_else_is_the_owners(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let other = store.owner_named("somebody else").await.unwrap();
        let (first, second, third) = (fresh.job("1").await, fresh.job("2").await, fresh.job("3").await);
        let new = |place: &str| NewJob {
            place: place.to_owned(),
            name: "4".to_owned(),
            purpose: json!({}),
            command: vec!["true".to_owned()],
        };
        let theirs = store.create_job(other, JobId::new(), new("here")).await.unwrap();
        store.create_job(owner, JobId::new(), new("elsewhere")).await.unwrap();
        fresh.moved(second.id, &[JobStatus::Queued], end(JobStatus::Paused, None)).await.unwrap();
        let going: Vec<JobId> = store.going_jobs("here").await.unwrap().into_iter().map(|job| job.id).collect();
        assert_eq!(going, [first.id, third.id, theirs.id]);
        let ours: Vec<String> = store.jobs(owner).await.unwrap().into_iter().map(|job| job.name).collect();
        assert_eq!(ours, ["4", "3", "2", "1"]);
        assert_eq!(store.jobs(OwnerId::new()).await.unwrap(), []);

        let not_found = |error| matches!(error, StoreError::NotFound { .. });
        assert!(not_found(store.job(other, first.id).await.unwrap_err()));
        assert!(not_found(store.rename_job(other, first.id, "x").await.unwrap_err()));
        assert!(not_found(store.set_job_purpose(other, first.id, &json!({})).await.unwrap_err()));
        assert!(not_found(store.delete_job(other, second.id).await.unwrap_err()));
        let moved = store.move_job(other, first.id, &[JobStatus::Queued], JobMove::Start).await;
        assert!(not_found(moved.unwrap_err()));
    }
}

on_both! {
    async fn names_and_purposes_change_and_only_what_is_not_going_is_deleted(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let job = fresh.job("job").await;
        assert_eq!(store.rename_job(owner, job.id, "第一个模型").await.unwrap().name, "第一个模型");
        let purpose = json!({"kind": "training", "served_as": "run/a\u{0}b"});
        assert_eq!(store.set_job_purpose(owner, job.id, &purpose).await.unwrap().purpose, purpose);
        for bad in ["", " \n", &"x".repeat(301)] {
            assert!(matches!(store.rename_job(owner, job.id, bad).await, Err(StoreError::Invalid { .. })));
        }
        let huge = json!({"x": "x".repeat(300 * 1024)});
        assert!(matches!(store.set_job_purpose(owner, job.id, &huge).await, Err(StoreError::Invalid { .. })));

        assert!(!store.delete_job(owner, job.id).await.unwrap(), "it waits for its turn");
        fresh.moved(job.id, &[JobStatus::Queued], end(JobStatus::Stopped, None)).await.unwrap();
        assert!(store.delete_job(owner, job.id).await.unwrap());
        assert!(matches!(store.job(owner, job.id).await, Err(StoreError::NotFound { .. })));
    }
}
