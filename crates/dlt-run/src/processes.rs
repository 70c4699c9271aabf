//! What the processes of one run do together before its first step. A process that fails there must
//! not leave the others waiting: every failure ends all of them, and each knows whose it was.

use dlt_spec::record::Provenance;
use dlt_train::Exchange;

use crate::Result;
use crate::error::RunError;

/// Returns what this process has made, once every process has made its own.
///
/// # Errors
/// As [`Exchange::all`].
pub(crate) fn all<T>(exchange: &mut Exchange, what: &'static str, own: Result<T>) -> Result<T> {
    exchange.all(what, own, RunError::exit_code)
}

/// Does `work` in process 0, then in all others: what process 0 fetches and tokenizes is in the
/// caches by then.
///
/// # Errors
/// As [`all`].
pub(crate) fn first_then_all<T>(
    exchange: &mut Exchange,
    what: &'static str,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if exchange.writes() {
        let own = all(exchange, what, work())?;
        // The others work now; this one waits for how they end.
        return all(exchange, what, Ok(own));
    }

    all(exchange, what, Ok(()))?;
    let own = work();
    all(exchange, what, own)
}

/// Refuses processes that do not begin the same run: another spec, data, tokenizer or program, or
/// something else of `more`. Warns if their processors differ.
///
/// # Errors
/// [`RunError::OtherRun`] with what differs and in which process.
pub(crate) fn agree_on_run(
    exchange: &mut Exchange,
    own: &Provenance,
    more: &[(&'static str, &str)],
) -> Result<()> {
    let program = format!("{} {}", own.version, own.revision.as_deref().unwrap_or("unknown"));
    let facts = [
        ("the spec with the fingerprint", own.spec_fingerprint.as_str()),
        ("data with the checksum", &own.data.sha256),
        ("the tokenizer", &own.data.tokenizer),
        ("the program of version", &program),
    ];
    agree(exchange, &[&facts, more].concat())?;

    let engine = own.host.product_engine.as_deref().unwrap_or_default();
    for warning in
        unlike(exchange, &[("the processor", &own.host.cpu), ("products of bf16 by", engine)])?
    {
        tracing::warn!("{warning}");
    }

    Ok(())
}

/// What process 0 says of facts that differ between the processes. It is empty in the others.
fn unlike(exchange: &mut Exchange, facts: &[(&'static str, &str)]) -> Result<Vec<String>> {
    let mut warnings = Vec::new();

    for &(what, own) in facts {
        let said = exchange.texts(what, own)?;
        let other = said.iter().position(|other| *other != said[0]);

        if let Some(rank) = other.filter(|_| exchange.writes()) {
            warnings.push(format!(
                "{} has {what} {}, and process 0 has {}: last bits depend on which of them computes \
                 a shard",
                exchange.name_of(rank),
                said[rank],
                said[0]
            ));
        }
    }

    Ok(warnings)
}

fn agree(exchange: &mut Exchange, facts: &[(&'static str, &str)]) -> Result<()> {
    for &(what, own) in facts {
        let said = exchange.texts(what, own)?;
        let verdict = match said.iter().position(|other| *other != said[0]) {
            None => Ok(()),
            Some(rank) => Err(RunError::OtherRun {
                what,
                process: exchange.name_of(rank),
                got: said[rank].clone(),
                expected: said[0].clone(),
            }),
        };
        all(exchange, what, verdict)?;
    }

    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use dlt_spec::ExitCode;
    use dlt_train::Threads;

    use super::*;

    /// What `work` returns in each of three processes.
    fn among<R: Send>(work: impl Fn(&mut Exchange) -> R + Sync) -> Vec<R> {
        thread::scope(|scope| {
            let work = &work;
            let started: Vec<_> = Threads::among(3)
                .into_iter()
                .map(|end| scope.spawn(move || work(&mut Exchange::over(Box::new(end)))))
                .collect();
            started.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        })
    }

    fn failing(exchange: &Exchange, rank: usize) -> Result<usize> {
        let own = exchange.share().rank;
        if own == rank { Err(RunError::NoRecording { path: "gone".into() }) } else { Ok(own) }
    }

    #[test]
    fn a_failure_of_one_process_is_known_to_all() {
        for failed in 0..3 {
            for first in [false, true] {
                let ended = among(|exchange| {
                    let own = failing(exchange, failed);
                    if first {
                        first_then_all(exchange, "the data", || own)
                    } else {
                        all(exchange, "the data", own)
                    }
                });

                for (rank, ended) in ended.into_iter().enumerate() {
                    let error = ended.expect_err("all fail");
                    let message = error.to_string();
                    let begins = format!("process {failed} on threads: ");
                    assert!(message.starts_with(&begins), "{rank} of {failed}: {message}");
                    assert!(message.ends_with("gone"), "{message}");
                    assert_eq!(error.exit_code(), ExitCode::BadData);
                }
            }
        }

        assert!(
            among(|exchange| all(exchange, "the data", failing(exchange, 7)).is_ok())
                .into_iter()
                .all(|ok| ok)
        );
    }

    #[test]
    fn what_fails_in_all_processes_is_said_without_a_name() {
        let ended = among(|exchange| {
            let own = exchange.share().rank;
            let ended = all(exchange, "the data", failing(exchange, own));
            (ended.map_err(|error| error.to_string()), exchange.has_failed())
        });

        let path = "no recording of decisions at gone".to_owned();
        for (ended, has_failed) in ended {
            let message = ended.expect_err("all fail");
            assert!(message.contains(&path) && !message.contains("process"), "{message}");
            assert!(has_failed);
        }
    }

    #[test]
    fn process_0_works_first() {
        let order = std::sync::Mutex::new(Vec::new());
        among(|exchange| {
            let rank = exchange.share().rank;
            let work = || {
                order.lock().expect("no panic").push(rank);
                Ok(())
            };
            first_then_all(exchange, "the data", work).expect("nobody fails");
        });
        let order = order.into_inner().expect("no panic");
        assert_eq!((order[0], order.len()), (0, 3));
    }

    #[test]
    fn process_0_warns_of_unlike_processors() {
        let ended = among(|exchange| {
            let cpu = if exchange.share().rank == 1 { "one with AMX" } else { "another" };
            unlike(exchange, &[("the version", "same"), ("the processor", cpu)])
        });

        let warnings = ended.into_iter().map(|ended| ended.expect("nobody fails"));
        let warnings: Vec<_> = warnings.collect();
        assert_eq!(
            warnings[0],
            [
                "process 1 on threads has the processor one with AMX, and process 0 has another: last \
              bits depend on which of them computes a shard"
            ]
        );
        assert!(warnings[1..].iter().all(Vec::is_empty));
    }

    #[test]
    fn processes_that_begin_another_run_are_refused_by_name() {
        let ended = among(|exchange| {
            let rank = exchange.share().rank;
            let data = if rank == 2 { "abc" } else { "def" };
            agree(exchange, &[("the spec", "same"), ("the data", data)])
        });

        for ended in ended {
            let message = ended.expect_err("they differ").to_string();
            assert!(message.contains("process 2 on threads"), "{message}");
            assert!(message.contains("the data") && message.contains("abc"), "{message}");
        }
    }
}
