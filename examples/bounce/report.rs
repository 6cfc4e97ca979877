//! What a run came to, for people and for programs.

use std::error::Error;

use modelkeep::admin::Filter;
use serde_json::json;

use super::{
    Outcome, REPEATS, Signal,
    table::{human_bytes, human_us, table},
};

pub fn print(outcome: &Outcome) -> Result<(), Box<dyn Error>> {
    println!(
        "{} symbols, {} daily bars, {} VIX days; {} dips with a known outcome\n",
        outcome.symbols, outcome.bars, outcome.vix_days, outcome.samples
    );
    quality(outcome);
    times(outcome);
    models(outcome)?;
    cache(outcome);
    signals(&outcome.signals);
    Ok(())
}

fn quality(outcome: &Outcome) {
    let mut rows = table(&["out of sample", "train", "test", "AUC", "Brier", "base rate"], &[1, 2, 3, 4, 5]);
    let names = [format!("{} symbols", outcome.symbols), format!("with {}", outcome.added.join(" and "))];
    for (name, report) in names.iter().zip([outcome.first, outcome.merged]) {
        rows.add_row([
            name.clone(),
            report.train_samples.to_string(),
            report.test_samples.to_string(),
            report.auc.map_or("n/a".into(), |auc| format!("{auc:.3}")),
            format!("{:.4}", report.brier),
            format!("{:.3}", report.base_rate),
        ]);
    }
    let base = outcome.first.base_rate;
    let (brier, constant) = (outcome.first.brier, base * (1.0 - base));
    println!("How good it is, on the last year, which it did not see\n{rows}");
    println!(
        "AUC 0.5 is a coin. Always saying the test year's own base rate would have a Brier score of {constant:.4}: the\n\
         model's probabilities are {} than that.\n",
        if brier < constant { "better" } else { "no better" }
    );
}

fn times(outcome: &Outcome) {
    let times = &outcome.times;
    let [first, second, reopened] = outcome.tiers.map(|tier| tier.to_string());
    let mut rows = table(&["what", "tier", "time", "whole scan", "against"], &[2, 3]);
    for (what, tier, time, scan, against) in [
        ("first scan: trained", first.as_str(), times.train, Some(times.scan_first), None),
        ("repeat scan", second.as_str(), times.hot, Some(times.scan_hot), Some(("training", times.train))),
        ("store reopened", reopened.as_str(), times.disk, Some(times.scan_disk), Some(("training", times.train))),
        ("all files, features, fit", "trained", times.full_retrain, None, None),
        ("update by 2 new tickers", "trained", times.incremental, None, Some(("full retrain", times.full_retrain))),
        ("forced refresh, stored data", "trained", times.forced, None, Some(("full retrain", times.full_retrain))),
    ] {
        rows.add_row([
            what.to_owned(),
            tier.to_owned(),
            human_us(time),
            scan.map_or_else(|| "-".to_owned(), human_us),
            against
                .map_or_else(|| "-".to_owned(), |(name, slow)| format!("{} x as fast as {name}", ratio(slow / time))),
        ]);
    }
    println!("What keeping it saves\n{rows}");
    println!(
        "Hot and disk are medians of {REPEATS}; opening the file took {} more. Updated and retrained model differ by at\n\
         most {:.0e} in probability.\n",
        human_us(times.open),
        outcome.difference
    );
}

/// One digit behind the point where it says anything.
fn ratio(ratio: f64) -> String {
    if ratio < 100.0 { format!("{ratio:.1}") } else { format!("{ratio:.0}") }
}

fn models(outcome: &Outcome) -> Result<(), Box<dyn Error>> {
    let mut rows = table(&["model", "version", "symbols", "samples", "AUC", "trained in", "archive"], &[2, 3, 4, 5, 6]);
    for listed in outcome.store.list(Filter::all())? {
        let listed = listed?;
        let metadata = listed.metadata()?;
        let auc = metadata.metrics.get("auc").map_or("n/a".into(), |auc| format!("{auc:.3}"));
        rows.add_row([
            listed.key().to_string(),
            metadata.version.map(|version| version.to_string()).unwrap_or_default(),
            metadata.symbols.len().to_string(),
            metadata.sample_count.to_string(),
            auc,
            human_us(metadata.training_duration.as_secs_f64() * 1e6),
            human_bytes(metadata.archive_bytes),
        ]);
    }
    println!("What the store holds\n{rows}\n");
    Ok(())
}

fn cache(outcome: &Outcome) {
    let stats = outcome.stats;
    println!(
        "After the first two scans: {} model hot ({}), {} hit and {} miss, {} training in {}, {} saved\n",
        stats.hot_entries,
        human_bytes(stats.hot_bytes),
        stats.hot.hits,
        stats.hot.misses,
        stats.trainings,
        human_us(stats.training_time.as_secs_f64() * 1e6),
        human_us(stats.time_saved.as_secs_f64() * 1e6),
    );
}

fn signals(signals: &[Signal]) {
    let mut rows = table(&["day", "symbol", "z-score", "RSI2", "VIX", "P(bounce)"], &[2, 3, 4, 5]);
    for signal in signals.iter().take(10) {
        let [zscore, rsi2, .., vix, _] = signal.dip.features;
        rows.add_row([
            signal.dip.day.to_string(),
            signal.symbol.clone(),
            format!("{zscore:.2}"),
            format!("{rsi2:.1}"),
            format!("{vix:.2}"),
            format!("{:.3}", signal.probability),
        ]);
    }
    println!("The newest signals\n{rows}");
}

pub fn json(outcome: &Outcome) -> Result<serde_json::Value, Box<dyn Error>> {
    let signals: Vec<_> = outcome
        .signals
        .iter()
        .map(|signal| {
            json!({
                "day": signal.dip.day.to_string(),
                "symbol": signal.symbol,
                "features": signal.dip.features,
                "probability": signal.probability,
            })
        })
        .collect();
    let times = &outcome.times;
    let [first, second, reopened] = outcome.tiers.map(|tier| tier.to_string());
    let version = outcome.store.metadata(&outcome.key)?.and_then(|metadata| metadata.version);
    Ok(json!({
        "symbols": outcome.symbols,
        "bars": outcome.bars,
        "vix_days": outcome.vix_days,
        "samples": outcome.samples,
        "train_samples": outcome.first.train_samples,
        "test_samples": outcome.first.test_samples,
        "auc": outcome.first.auc,
        "brier": outcome.first.brier,
        "base_rate": outcome.first.base_rate,
        "auc_merged": outcome.merged.auc,
        "train_us": rounded(times.train),
        "hot_us": rounded(times.hot),
        "disk_us": rounded(times.disk),
        "open_us": rounded(times.open),
        "incremental_us": rounded(times.incremental),
        "full_retrain_us": rounded(times.full_retrain),
        "forced_us": rounded(times.forced),
        "scan_first_us": rounded(times.scan_first),
        "scan_hot_us": rounded(times.scan_hot),
        "scan_disk_us": rounded(times.scan_disk),
        "tier_first": first,
        "tier_second": second,
        "tier_reopened": reopened,
        "config_hash": outcome.key.config_hash().to_string(),
        "full_config_hash": outcome.full_key.config_hash().to_string(),
        "version": version.map(modelkeep::Version::get),
        "largest_difference": outcome.difference,
        "signals": signals,
    }))
}

/// Three digits behind the point: a nanosecond.
fn rounded(us: f64) -> f64 {
    (us * 1e3).round() / 1e3
}
