//! What the log of a run tells: how far it is, from the end of the log, and its whole course, thinned.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::{Value as Json, json};
use server::{Progress, Series};
use trainer::{Event, LOG_FILE, RunFile};

/// Bytes at the end of a log in which the last steps are looked for,
const STEPS_WITHIN: u64 = 64 << 10;
/// and the last evaluation: many steps lie between two, and whoever follows a run asks twice a second.
const EVALUATION_WITHIN: u64 = 1 << 20;
/// What the line of an evaluation begins with.
const EVALUATED: &[u8] = b"{\"event\":\"evaluated\"";
/// Steps over which the speed is measured that the time left follows from.
const SPEED_OVER: usize = 50;
/// The newest samples that are told.
const MAX_SAMPLES: usize = 60;

pub(super) fn progress(folder: &Path) -> Progress {
    let mut progress = Progress::default();
    // A run that is being prepared has no such file yet.
    if let Ok(file) = RunFile::read(folder) {
        progress.n_steps = file.settings.n_steps;
    }
    let path = folder.join(LOG_FILE);
    let (events, is_whole) = tail(&path, STEPS_WITHIN, |_| true).unwrap_or_default();
    tell(&events, &mut progress);
    if !is_whole && progress.held_out_loss.is_none() {
        let is_evaluation = |line: &[u8]| line.starts_with(EVALUATED);
        let (evaluations, _) = tail(&path, EVALUATION_WITHIN, is_evaluation).unwrap_or_default();
        tell(&evaluations, &mut progress);
    }
    progress
}

fn tell(events: &[Event], progress: &mut Progress) {
    progress.has_begun |= !events.is_empty();
    let mut steps = Vec::new();
    for event in events {
        match event {
            Event::Step { step, loss, n_tokens, tokens_per_second, seconds, .. } => {
                (progress.step, progress.loss, progress.n_tokens) = (*step, Some(*loss), Some(*n_tokens));
                (progress.tokens_per_second, progress.seconds) = (Some(*tokens_per_second), Some(*seconds));
                steps.push((*step, *seconds));
            }
            Event::Evaluated { loss, bits_per_byte, accuracy, .. } => {
                progress.held_out_loss = Some(*loss);
                (progress.bits_per_byte, progress.accuracy) = (*bits_per_byte, *accuracy);
            }
            Event::Resumed { step } | Event::RolledBack { step, .. } => {
                progress.step = *step;
                steps.clear();
            }
            _ => {}
        }
    }
    let first = steps.len().saturating_sub(SPEED_OVER);
    if let (Some(first), Some(last)) = (steps.get(first), steps.last())
        && last.0 > first.0
    {
        let per_step = (last.1 - first.1) / (last.0 - first.0) as f64;
        progress.seconds_left = Some(per_step * progress.n_steps.saturating_sub(last.0) as f64);
    }
}

/// Events of the lines at the end of a log that are wanted, and whether these are all of its lines.
fn tail(path: &Path, n_bytes: u64, wanted: fn(&[u8]) -> bool) -> io::Result<(Vec<Event>, bool)> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), true)),
        file => file?,
    };
    let length = file.metadata()?.len();
    let is_whole = length <= n_bytes;
    file.seek(SeekFrom::Start(length.saturating_sub(n_bytes)))?;
    let mut bytes = Vec::new();
    file.take(n_bytes).read_to_end(&mut bytes)?;
    // Of the first line the beginning is missing, of the last the end.
    let lines = bytes.split(|&byte| byte == b'\n').skip(usize::from(!is_whole));
    let events = lines.filter(|line| wanted(line)).filter_map(|line| serde_json::from_slice(line).ok());
    Ok((events.collect(), is_whole))
}

/// One step, as it is drawn.
struct Point {
    step: u64,
    loss: f64,
    rate: f64,
    grad_norm: f64,
    tokens_per_second: f64,
    seconds: f64,
    n_tokens: f64,
}

pub(super) fn series(path: &Path, max: usize) -> io::Result<Series> {
    let mut series = Series::default();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(series),
        file => file?,
    };
    let mut points: Vec<Point> = Vec::new();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        // A line without its end is still being written.
        if line.pop() != Some(b'\n') {
            break;
        }
        series.n_lines += 1;
        let Ok(event) = serde_json::from_slice::<Event>(&line) else { continue };
        let as_it_is = || serde_json::to_value(&event).unwrap_or_default();
        let mut note = |step: u64, kind: &str, reason: Option<&String>| {
            series.notes.push(json!({"step": step, "kind": kind, "reason": reason}));
        };
        match &event {
            Event::Step { step, loss, rate, grad_norm, n_tokens, tokens_per_second, seconds, .. } => {
                points.push(Point {
                    step: *step,
                    loss: *loss,
                    rate: *rate,
                    grad_norm: *grad_norm,
                    tokens_per_second: *tokens_per_second,
                    seconds: *seconds,
                    n_tokens: *n_tokens,
                });
            }
            Event::Evaluated { .. } => series.evaluations.push(without_kind(as_it_is())),
            Event::Sample { .. } => series.samples.push(without_kind(as_it_is())),
            Event::LeftOut { step, reason } => note(*step, "left_out", Some(reason)),
            Event::RolledBack { step, reason } => {
                // What came after the checkpoint is not part of the course that led here.
                points.retain(|point| point.step <= *step);
                note(*step, "rolled_back", Some(reason));
            }
            Event::StoppedEarly { step, .. } => note(*step, "stopped_early", None),
            Event::Resumed { step } => note(*step, "resumed", None),
            Event::Saved { .. } | Event::Done { .. } => {}
        }
    }
    series.samples.drain(..series.samples.len().saturating_sub(MAX_SAMPLES));
    thin(&points, max, &mut series);
    Ok(series)
}

fn without_kind(mut event: Json) -> Json {
    if let Some(event) = event.as_object_mut() {
        event.shift_remove("event");
    }
    event
}

/// Each point stands for as many steps as needed, with their means; it stands where the last of them does.
fn thin(points: &[Point], max: usize, series: &mut Series) {
    for part in points.chunks(points.len().div_ceil(max).max(1)) {
        let Some(last) = part.last() else { continue };
        let mean = |of: fn(&Point) -> f64| {
            let finite = part.iter().map(of).filter(|x| x.is_finite());
            let (n, sum) = finite.fold((0u32, 0.0), |(n, sum), x| (n + 1, sum + x));
            sum / f64::from(n.max(1))
        };
        series.steps.push(last.step);
        series.seconds.push(last.seconds);
        series.n_tokens.push(last.n_tokens);
        series.loss.push(mean(|point| point.loss));
        series.rate.push(mean(|point| point.rate));
        series.grad_norm.push(mean(|point| point.grad_norm));
        series.tokens_per_second.push(mean(|point| point.tokens_per_second));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> String {
        format!(
            "{{\"event\":\"step\",\"step\":{step},\"loss\":{},\"rate\":1.0,\"grad_norm\":0.5,\"n_tokens\":{},\
             \"epochs\":0.1,\"tokens_per_second\":100.0,\"seconds\":{}}}\n",
            10.0 - step as f64 / 100.0,
            step * 64,
            step as f64 / 2.0
        )
    }

    fn written(lines: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log.jsonl");
        std::fs::write(&path, lines).expect("written");
        (dir, path)
    }

    #[test]
    fn a_course_is_thinned_to_means_and_a_rollback_takes_back_what_it_undid() {
        let mut lines: String = (1..=100).map(step).collect();
        lines.push_str("{\"event\":\"rolled_back\",\"step\":60,\"reason\":\"the loss jumped\"}\n");
        lines
            .push_str("{\"event\":\"sample\",\"step\":60,\"prompt\":\"a\",\"text\":\"b\"}\nnot JSON\n{\"cut");
        let (_dir, path) = written(&lines);
        let series = series(&path, 30).expect("read");
        assert_eq!((series.n_lines, series.steps.len()), (103, 30));
        assert_eq!((series.steps[0], series.steps[29]), (2, 60));
        assert_eq!((series.seconds[29], series.n_tokens[29]), (30.0, 60.0 * 64.0));
        assert!((series.loss[0] - 9.985).abs() < 1e-9, "{:?}", series.loss);
        assert_eq!(series.notes[0]["kind"], "rolled_back");
        assert_eq!(series.samples[0], json!({"step": 60, "prompt": "a", "text": "b"}));
    }

    #[test]
    fn how_far_a_run_is_stands_at_the_end_of_its_log() {
        let mut lines =
            "{\"event\":\"evaluated\",\"step\":0,\"loss\":9.0,\"bits_per_byte\":3.5,\"is_best\":true}\n"
                .to_owned();
        lines.extend((1..=2000).map(step));
        let (dir, _) = written(&lines);
        let progress = progress(dir.path());
        assert!(progress.has_begun);
        assert_eq!((progress.step, progress.n_steps, progress.bits_per_byte), (2000, 0, Some(3.5)));
        assert_eq!((progress.held_out_loss, progress.accuracy), (Some(9.0), None));
        assert_eq!((progress.seconds, progress.seconds_left), (Some(1000.0), Some(0.0)));
        let nothing = tempfile::tempdir().expect("a folder");
        assert_eq!(super::progress(nothing.path()), Progress::default());
    }
}
