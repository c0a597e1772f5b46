//! Stores on servers. Sequential figures pin client and server to one core, where no wake-up of another one counts;
//! throughput is unpinned, on a runtime of one thread, since the server needs the other core.

pub mod locks;
pub mod memcached;
pub mod redis;
pub mod tags;
pub mod traffic;

use std::future::Future;
use std::process::Command;

use tokio::runtime::Runtime;

use crate::measure::nanos_per_op;

/// Runs this program again on one core; what it starts stays there, too.
pub fn on_one_core(role: &str) {
    let program = std::env::current_exe().expect("the program has a path");
    let status = Command::new("taskset").args(["-c", "0"]).arg(program).arg(role).status();
    let status = status.expect("taskset, of the package util-linux, runs");
    assert!(status.success(), "{role} failed");
}

pub fn one_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Microseconds of one operation after the other.
pub fn sequential<F: Future>(runtime: &Runtime, ops: usize, mut op: impl FnMut(usize) -> F) -> f64 {
    nanos_per_op(ops, || {
        runtime.block_on(async {
            for n in 0..ops {
                op(n).await;
            }
        });
    }) / 1e3
}

/// Thousands of operations a second by some tasks at once.
fn throughput<F>(runtime: &Runtime, ops: usize, tasks: usize, op: impl Fn(usize) -> F + Clone + 'static) -> f64
where
    F: Future + 'static,
{
    let nanos = nanos_per_op(ops, || {
        let local = tokio::task::LocalSet::new();
        local.block_on(runtime, async {
            let task = |task: usize| {
                let op = op.clone();
                tokio::task::spawn_local(async move {
                    for n in (task..ops).step_by(tasks) {
                        op(n).await;
                    }
                })
            };
            let running: Vec<_> = (0..tasks).map(task).collect();
            for task in running {
                task.await.expect("the task ends");
            }
        });
    });
    1e6 / nanos
}
