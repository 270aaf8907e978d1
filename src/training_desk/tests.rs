use super::*;

fn desk() -> Desk {
    Desk { recipes: recipes::all(), program: "daybreak".to_owned() }
}

#[test]
fn every_setting_of_every_recipe_is_a_flag_that_the_command_line_takes() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("a.jsonl"), "{}").expect("written");
    let desk = desk();
    for recipe in desk.recipes() {
        for setting in &recipe.settings {
            let values = match &setting.kind {
                server::SettingKind::Int { min, max } => vec![Json::from(*min), Json::from(*max)],
                server::SettingKind::Float { min, max } => vec![Json::from(*min), Json::from(*max)],
                server::SettingKind::Choice(choices) => {
                    choices.iter().map(|choice| Json::from(*choice)).collect()
                }
                server::SettingKind::Bool => vec![Json::from(true), Json::from(false)],
                server::SettingKind::Duration => vec![Json::from("30m")],
            };
            let default = Some(setting.default.clone()).filter(|default| !default.is_null());
            for value in values.into_iter().chain(default) {
                let settings = Map::from_iter([(setting.key.to_owned(), value)]);
                let order = Order {
                    recipe,
                    settings: &settings,
                    dataset: recipe.data.map(|_| dir.path()),
                    base: recipe.needs_base.then_some(Path::new("/models/base.gguf")),
                    folder: Path::new("/runs/one"),
                };
                for command in [desk.begin(&order), desk.plan(&order)] {
                    assert_eq!(desk.check(&command), Ok(()), "{command:?}");
                }
            }
        }
        let base = recipe.needs_base.then_some(Path::new("/models/base.gguf"));
        let Some(data) = recipe.data else { continue };
        let order =
            PreviewOrder { stage: recipe.stage, data, dataset: dir.path(), base, offset: 8, n_records: 4 };
        let command = desk.preview(&order);
        assert_eq!(desk.check(&command), Ok(()), "{command:?}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused_in_one_line() {
    let desk = desk();
    let recipe = desk.recipes().iter().find(|recipe| recipe.id == "pretrain").expect("there is one");
    let settings = Map::from_iter([("budget".to_owned(), "30m".into()), ("tokens".to_owned(), 5.into())]);
    let (dataset, folder) = (Path::new("/data/books"), Path::new("/runs/one"));
    let order = Order { recipe, settings: &settings, dataset: Some(dataset), base: None, folder };
    let refused = desk.check(&desk.begin(&order)).expect_err("both are the length");
    assert!(refused.contains("--budget") && !refused.contains('\n'), "{refused}");
}

#[test]
fn a_dataset_is_its_folder_unless_a_walk_would_pass_a_file_by() {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str| std::fs::write(dir.path().join(name), "x").expect("written");
    put("a.txt");
    put("b.JSONL.gz");
    put(".upload-1");
    assert_eq!(texts(dir.path(), DataKind::Text), [text(dir.path())]);
    put("README");
    let all = ["README", "a.txt", "b.JSONL.gz"].map(|name| text(&dir.path().join(name)));
    assert_eq!(texts(dir.path(), DataKind::Text), all);
    assert_eq!(texts(dir.path(), DataKind::Pairs), all);
}

#[test]
fn a_run_without_a_checkpoint_cannot_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = Map::from_iter([("threads".to_owned(), 1.into())]);
    std::fs::create_dir(dir.path().join("checkpoints")).expect("made");
    assert_eq!(desk().go_on(dir.path(), &settings), None);
    // Written behind the first checkpoint.
    std::fs::write(dir.path().join("run.json"), "{}").expect("written");
    let command = desk().go_on(dir.path(), &settings).expect("it goes on");
    assert_eq!(command, ["daybreak", "train", "resume", &text(dir.path()), "--threads", "1"]);
    assert_eq!(desk().check(&command), Ok(()));
}
