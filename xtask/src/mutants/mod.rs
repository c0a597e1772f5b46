//! Tests of the tests: the code is broken on purpose, and the law that forbids that must fail.
//!
//! ```text
//! mutants.toml -> copy of the tree -> unmodified: all laws green
//!                                  -> one replacement at a time: builds, and its law fails
//! ```
//!
//! The list is written by hand: one mutant per promise, not one per operator, so that all of them run in minutes.
//! A survivor, a mutant that does not build, and an entry whose text is no longer in the source all fail the task.

mod list;
mod tree;
mod trial;

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::servers;
use crate::workspace;
use list::Mutant;
use tree::Tree;
use trial::{Court, Verdict};

/// The outcome of one mutant.
struct Row<'a> {
    mutant: &'a Mutant,
    verdict: Verdict,
    seconds: f64,
}

/// Tries the mutant called `name`, or all; returns whether every one was killed.
pub(crate) fn hunt(name: Option<&str>) -> Result<bool> {
    let mutants = list::select(
        list::load(&workspace::root().join("xtask/mutants.toml"))?,
        name,
    )?;
    if mutants.is_empty() {
        println!("xtask/mutants.toml lists no mutants");
        return Ok(true);
    }
    let target = workspace::target_dir().join("mutants");
    // Freed when the file is closed, however this ends.
    let _lock = lock(&target)?;
    let tree = Tree::copy(&workspace::root())?;
    for mutant in &mutants {
        mutant.apply(&tree.read(&mutant.file)?)?;
    }
    let fleet = servers::provide(servers::registered())?;
    let court = Court::new(tree.path(), &target, &fleet);
    require_green(&court, &mutants)?;
    let rows = mutants
        .iter()
        .map(|mutant| try_one(&tree, &court, mutant))
        .collect::<Result<Vec<_>>>()?;
    print_table(&rows);
    Ok(rows.iter().all(|row| row.verdict == Verdict::Killed))
}

/// Takes the target directory for this run: two runs that share builds would test each other's code.
fn lock(target: &Path) -> Result<File> {
    fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
    let file =
        File::create(target.join("xtask.lock")).context("cannot create the lock of the mutants")?;
    file.try_lock()
        .context("another run of the mutants holds the target directory")?;
    Ok(file)
}

/// Requires that every law holds before anything is broken.
fn require_green(court: &Court<'_>, mutants: &[Mutant]) -> Result<()> {
    let mut laws: Vec<&str> = mutants.iter().flat_map(Mutant::laws).collect();
    laws.sort_unstable();
    laws.dedup();
    println!("unmodified tree: holding {}", laws.join(" "));
    let trial = court.hold(&laws)?;
    if trial.verdict() != Verdict::Survived {
        trial.log.iter().for_each(|line| println!("{line}"));
        bail!("the unmodified tree is not green: {}", trial.verdict());
    }
    Ok(())
}

fn try_one<'a>(tree: &Tree, court: &Court<'_>, mutant: &'a Mutant) -> Result<Row<'a>> {
    let begun = Instant::now();
    let original = tree.read(&mutant.file)?;
    tree.write(&mutant.file, &mutant.apply(&original)?)?;
    let trial = court.hold(&mutant.laws().collect::<Vec<_>>());
    tree.write(&mutant.file, &original)?;
    let trial = trial?;
    let verdict = trial.verdict();
    if matches!(verdict, Verdict::DoesNotBuild | Verdict::Crashed) {
        trial.log.iter().for_each(|line| println!("{line}"));
    }
    println!("{}: {verdict}", mutant.name);
    Ok(Row {
        mutant,
        verdict,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn print_table(rows: &[Row<'_>]) {
    let width = |text: fn(&Mutant) -> &str, title: &str| {
        let widths = rows.iter().map(|row| text(row.mutant).chars().count());
        widths.max().unwrap_or_default().max(title.len())
    };
    let names = width(|mutant| &mutant.name, "mutant");
    let laws = width(|mutant| &mutant.kills, "law");
    println!(
        "\n{:names$}  {:laws$}  {:14}  seconds",
        "mutant", "law", "verdict"
    );
    for Row {
        mutant,
        verdict,
        seconds,
    } in rows
    {
        println!(
            "{:names$}  {:laws$}  {:14}  {seconds:7.1}",
            mutant.name,
            mutant.kills,
            verdict.to_string()
        );
    }
    let killed = rows
        .iter()
        .filter(|row| row.verdict == Verdict::Killed)
        .count();
    println!("{killed} of {} mutants killed", rows.len());
}
