//! A step of a transition as a line for people.

use std::time::Duration;

use echo_sdk::contract::transition::{Comparison, TransitionEvent, TransitionStep, VersionFigures};

use crate::output::{Palette, Style};

/// How wide the steps' names are.
const WIDTH: usize = 12;

/// The line: the step, what it means, and the figures of both versions where there are any.
pub fn line(event: &TransitionEvent, named: bool, palette: Palette) -> String {
    let style = match event.step {
        TransitionStep::Committed => Style::Good,
        TransitionStep::RollingBack | TransitionStep::RolledBack | TransitionStep::Refused => {
            Style::Bad
        }
        _ => Style::Strong,
    };
    let mut line = palette.paint(style, format_args!("{:<WIDTH$}", event.step.as_str()));
    line.push(' ');
    if named {
        line.push_str(&format!("{} ", event.id));
    }
    line.push_str(&what(event));
    if let Some(reason) = &event.reason {
        line.push_str(&format!(": {reason}"));
    }
    let figures = [("old", &event.old), ("new", &event.new)].map(|(of, it)| figures(of, it));
    let figures: Vec<String> = figures.into_iter().flatten().collect();
    if !figures.is_empty() {
        let figures = figures.join("; ");
        line.push_str(&format!(" {}", palette.paint(Style::Dim, format_args!("({figures})"))));
    }
    line
}

fn what(event: &TransitionEvent) -> String {
    let TransitionEvent { plugin, from, to, strategy, share, .. } = event;
    let new = match to {
        Some(to) => format!("the new version {to}"),
        None => "the new version".to_owned(),
    };
    match event.step {
        TransitionStep::Started => {
            format!(
                "a new version is to take the place of `{plugin}` {from}, {}",
                strategy.as_str()
            )
        }
        TransitionStep::Prepared => format!("{new} is initialised and takes up the state"),
        TransitionStep::Compared => match &event.comparison {
            Some(comparison) => compared(comparison),
            None => format!("{new} does what the old one does"),
        },
        TransitionStep::Shifted => format!("{new} gets {share} % of the messages"),
        TransitionStep::Cut => format!("{new} gets all messages, {from} is ready to go on"),
        TransitionStep::Committed => format!("{new} stays, the old one is gone"),
        TransitionStep::RollingBack => format!("{from} is to go on"),
        TransitionStep::RolledBack => format!("{from} goes on, {new} is gone"),
        TransitionStep::Refused => format!("{from} goes on, nothing has changed"),
    }
}

fn compared(comparison: &Comparison) -> String {
    let Comparison { compared, different, incomparable, first } = comparison;
    let mut text =
        format!("{compared} messages handled by both, {different} of them in another way");
    if *incomparable > 0 {
        text.push_str(&format!(", {incomparable} that cannot be compared"));
    }
    if let Some(first) = first {
        text.push_str(&format!("; first: {first}"));
    }
    text
}

/// What a version has done, if it has done anything.
fn figures(of: &str, figures: &VersionFigures) -> Option<String> {
    let VersionFigures { attempts, failed, panicked, postponed, p50, p99 } = figures;
    if *attempts == 0 {
        return None;
    }
    let mut text = format!("{of}: {attempts} handled, {failed} failed");
    if *panicked > 0 {
        text.push_str(&format!(", {panicked} of them panicked"));
    }
    if *postponed > 0 {
        text.push_str(&format!(", {postponed} put off"));
    }
    for (name, took) in [("p50", p50), ("p99", p99)] {
        if let Some(took) = took {
            text.push_str(&format!(", {name} {}", short(*took)));
        }
    }
    Some(text)
}

/// A time of handling: two digits or three.
fn short(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        micros if micros < 9.5 => format!("{micros:.1} µs"),
        micros if micros < 999.5 => format!("{micros:.0} µs"),
        _ => crate::summary::elapsed(micros / 1e3),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use echo_sdk::TransitionStrategy;
    use uuid::Uuid;

    /// A step of the transition of these tests.
    pub fn event(step: TransitionStep) -> TransitionEvent {
        TransitionEvent {
            id: Uuid::from_u128(7),
            plugin: "prices".to_owned(),
            from: "1.0.0".to_owned(),
            to: (step != TransitionStep::Started).then(|| "1.1.0".to_owned()),
            strategy: TransitionStrategy::Gradual,
            step,
            at: chrono::DateTime::UNIX_EPOCH,
            share: 5,
            reason: None,
            old: VersionFigures::default(),
            new: VersionFigures::default(),
            comparison: None,
        }
    }

    fn told(event: &TransitionEvent) -> String {
        line(event, false, Palette::PLAIN)
    }

    #[test]
    fn a_step_says_what_it_means() {
        let started = told(&event(TransitionStep::Started));
        assert_eq!(
            started,
            "started      a new version is to take the place of `prices` 1.0.0, gradual"
        );
        let figures = |attempts, failed, panicked, p99: u64| VersionFigures {
            attempts,
            failed,
            panicked,
            postponed: failed / 2,
            p50: Some(Duration::from_nanos(4_200)),
            p99: Some(Duration::from_micros(p99)),
        };
        let shifted = TransitionEvent {
            old: figures(950, 0, 0, 120),
            new: figures(50, 3, 1, 12_000),
            ..event(TransitionStep::Shifted)
        };
        assert_eq!(
            told(&shifted),
            "shifted      the new version 1.1.0 gets 5 % of the messages (old: 950 handled, 0 failed, p50 4.2 µs, \
             p99 120 µs; new: 50 handled, 3 failed, 1 of them panicked, 1 put off, p50 4.2 µs, p99 12 ms)"
        );
        let back = TransitionEvent {
            reason: Some("3 of 50 attempts failed".to_owned()),
            ..event(TransitionStep::RolledBack)
        };
        assert_eq!(
            told(&back),
            "rolled_back  1.0.0 goes on, the new version 1.1.0 is gone: 3 of 50 attempts failed"
        );
    }

    #[test]
    fn a_comparison_names_its_first_difference() {
        let comparison = Comparison {
            compared: 100,
            different: 1,
            incomparable: 2,
            first: Some("v2 publishes nothing".to_owned()),
        };
        let compared =
            TransitionEvent { comparison: Some(comparison), ..event(TransitionStep::Compared) };
        assert_eq!(
            told(&compared),
            "compared     100 messages handled by both, 1 of them in another way, 2 that cannot be compared; first: \
             v2 publishes nothing"
        );
    }

    #[test]
    fn lines_of_several_hosts_say_which_transition_they_are_of() {
        let text = line(&event(TransitionStep::Cut), true, Palette::PLAIN);
        assert!(text.contains(&Uuid::from_u128(7).to_string()), "{text}");
    }
}
