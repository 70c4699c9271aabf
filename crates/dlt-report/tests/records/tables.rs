//! Tables, read back with the csv crate.

use std::fs;
use std::path::Path;

use csv::Reader;
use dlt_report::csv::{FOLDER, convert};
use dlt_spec::record::{DecisionRow, EvaluationRow, MetricRow, SearchRow, Split, StepRow};
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::rows::{rows, write_run};

/// The cells of a table by the names of their columns, line by line.
fn cells(path: &Path) -> Vec<Vec<(String, String)>> {
    let mut reader = Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    let line = |record: csv::StringRecord| {
        let named = header.iter().zip(record.iter());
        named.map(|(name, cell)| (name.to_owned(), cell.to_owned())).collect()
    };

    reader.records().map(|record| line(record.unwrap())).collect()
}

/// The line of a row, made only from the cells.
fn row(kind: &str, cells: &[(String, String)]) -> MetricRow {
    let mut object = Map::new();
    object.insert("kind".to_owned(), kind.into());

    for (name, cell) in cells {
        let name = name.trim_end_matches("_nats");
        let value = match name {
            _ if cell.is_empty() && name != "state" => continue,
            "split" => Value::from(cell.as_str()),
            "explored" | "refused" => Value::from(cell.parse::<bool>().unwrap()),
            "action" | "state" => {
                cell.split_whitespace().map(|layer| layer.parse::<u64>().unwrap()).collect()
            }
            _ => number(cell),
        };

        // What a search did is one object in a row.
        match name.strip_prefix("search_") {
            Some(part) => {
                let search = object.entry("search").or_insert_with(|| Map::new().into());
                search[part] = value;
            }
            None => drop(object.insert(name.to_owned(), value)),
        }
    }

    serde_json::from_value(Value::Object(object))
        .unwrap_or_else(|error| panic!("{cells:?}: {error}"))
}

fn number(cell: &str) -> Value {
    match cell.parse::<u64>() {
        Ok(integer) => integer.into(),
        // NaN becomes null, as in the rows.
        Err(_) => cell.parse::<f64>().unwrap().into(),
    }
}

/// The lines of rows, to compare rows with NaN, which are unequal under `==`.
fn lines(rows: &[MetricRow]) -> Vec<String> {
    rows.iter().map(MetricRow::to_line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn law_tables_read_back_are_the_rows(rows in rows()) {
        let place = tempfile::tempdir().unwrap();
        write_run(place.path(), &rows);

        let paths = convert(place.path(), &place.path().join(FOLDER)).unwrap();
        let read = |path: &Path, kind: &str| -> Vec<MetricRow> {
            cells(path).iter().map(|cells| row(kind, cells)).collect()
        };

        // As they are read from the metrics: an infinity is NaN, and a last digit may differ.
        let rows: Vec<_> =
            rows.iter().map(|row| MetricRow::from_line(&row.to_line()).unwrap()).collect();
        let of = |is: fn(&&MetricRow) -> bool| {
            lines(&rows.iter().filter(is).cloned().collect::<Vec<_>>())
        };
        let [steps, evaluations, decisions] = &paths[..] else { panic!("{paths:?}") };

        prop_assert_eq!(lines(&read(steps, "step")), of(|row| matches!(row, MetricRow::Step(_))));
        prop_assert_eq!(
            lines(&read(evaluations, "evaluation")),
            of(|row| matches!(row, MetricRow::Evaluation(_)))
        );
        prop_assert_eq!(
            lines(&read(decisions, "decision")),
            of(|row| matches!(row, MetricRow::Decision(_)))
        );
    }
}

#[test]
fn tables_are_as_they_are_described() {
    let place = tempfile::tempdir().unwrap();
    let step = StepRow {
        step: 1,
        loss: f64::NAN,
        learning_rate: 1e-7,
        gradient_norm: 2.0,
        tokens: 64,
        independent_layers: 2,
        distinct_layers: 3,
        trainable_parameters: 100,
        block_parameters: 40,
        elapsed_ms: 1.5,
        tokens_per_s: Some(8.25),
        current_rss_mb: None,
        skipped_steps: Some(1),
    };

    let evaluation = EvaluationRow {
        step: 1,
        split: Split::Test,
        loss: 0.1,
        perplexity: 1.1,
        tokens: 9,
        accuracy: Some(0.5),
        elapsed_ms: 2.0,
    };

    let decision = DecisionRow {
        step: 0,
        visit: 0,
        layer: None,
        action: Some(vec![0, 1, 0]),
        state: vec![0, 1, 0],
        explored: true,
        epsilon: Some(0.9),
        reward: Some(-3.0),
        q_predicted: None,
        q_target: None,
        q_loss: None,
        conflict: Some(0.75),
        unlikeness: Some(0.125),
        refused: true,
        loss_before: Some(5.25),
        loss_after: Some(5.75),
        search: Some(SearchRow { candidates: 8, passes: 16, loss_before: 5.25, loss_after: 5.0 }),
        tied_events: 1,
        untied_events: 2,
        elapsed_ms: 0.5,
    };

    let rows =
        [MetricRow::Step(step), MetricRow::Evaluation(evaluation), MetricRow::Decision(decision)];
    write_run(place.path(), &rows);

    let paths = convert(place.path(), &place.path().join("tables")).unwrap();
    let texts = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<Vec<_>>();
    assert_eq!(
        texts,
        [
            "step,loss_nats,learning_rate,gradient_norm,tokens,independent_layers,distinct_layers,trainable_parameters,block_parameters,elapsed_ms,tokens_per_s,current_rss_mb,skipped_steps\n1,NaN,1e-7,2.0,64,2,3,100,40,1.5,8.25,,1\n",
            "step,split,loss_nats,perplexity,tokens,accuracy,elapsed_ms\n1,test,0.1,1.1,9,0.5,2.0\n",
            "step,visit,layer,action,state,explored,epsilon,reward,q_predicted,q_target,q_loss,tied_events,untied_events,elapsed_ms,refused,conflict,loss_before_nats,loss_after_nats,unlikeness,search_candidates,search_passes,search_loss_before_nats,search_loss_after_nats\n0,0,,0 \
             1 0,0 1 0,true,0.9,-3.0,,,,1,2,0.5,true,0.75,5.25,5.75,0.125,8,16,5.25,5.0\n",
        ]
    );
    assert!(paths.iter().all(|path| path.parent() == Some(&place.path().join("tables"))));

    assert_eq!(
        fs::read_dir(place.path().join("tables")).unwrap().count(),
        3,
        "nothing else is left there"
    );
}

#[test]
fn rejects_to_write_over_a_table_of_others() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join(FOLDER);
    write_run(place.path(), &[]);

    let paths = convert(place.path(), &folder).unwrap();
    let before = fs::read(&paths[0]).unwrap();
    convert(place.path(), &folder).unwrap();
    fs::write(&paths[2], "step,mine\n1,2\n").unwrap();
    fs::write(&paths[0], [&before[..], b"1,"].concat()).unwrap();

    let error = convert(place.path(), &folder).unwrap_err().to_string();
    assert!(error.contains("decisions.csv: already exists, and was not written by dlt"), "{error}");
    assert_eq!(fs::read_to_string(&paths[2]).unwrap(), "step,mine\n1,2\n");
    assert!(fs::read(&paths[0]).unwrap().ends_with(b"1,"), "nothing was written");
    fs::write(&paths[2], "").unwrap();
    assert!(convert(place.path(), &folder).is_err(), "an empty file may be anybody's");
}

#[test]
fn a_table_of_an_earlier_build_is_replaced() {
    let place = tempfile::tempdir().unwrap();
    write_run(place.path(), &[]);

    let folder = place.path().join(FOLDER);
    let decisions = &convert(place.path(), &folder).unwrap()[2];
    let now = fs::read_to_string(decisions).unwrap();
    let earlier = "step,visit,layer,action,state,explored,epsilon,reward,q_predicted,q_target,q_loss,tied_events,\
                   untied_events,elapsed_ms\n";
    fs::write(decisions, format!("{earlier}0,0,,0 1 0,0 1 0,true,0.9,-3.0,,,,1,2,0.5\n")).unwrap();

    convert(place.path(), &folder).unwrap();
    assert_eq!(fs::read_to_string(decisions).unwrap(), now);

    let later =
        earlier.replace('\n', ",refused,conflict,loss_before_nats,loss_after_nats,unlikeness\n");
    fs::write(decisions, format!("{later}0,0,,0,0,true,0.9,-3.0,,,,1,2,0.5,false,,,,\n")).unwrap();
    convert(place.path(), &folder).unwrap();
    assert_eq!(fs::read_to_string(decisions).unwrap(), now);

    // No build wrote a table with one column less.
    fs::write(decisions, earlier.replace(",elapsed_ms", "")).unwrap();
    assert!(convert(place.path(), &folder).is_err());
}
