//! How one version of a plugin takes another's place.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;

/// How messages pass from one version of a plugin to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TransitionStrategy {
    /// At once: what the old version has in hand is cut off, and the new one gets it.
    Immediate,
    /// The old version finishes what it has in hand, then the new one goes on.
    #[default]
    Graceful,
    /// The new version gets a part of the messages, which grows step by step.
    Gradual,
    /// The new version first handles copies of the messages, of which nothing follows; where it does what the old
    /// version does, it goes on.
    BlueGreen,
}

impl TransitionStrategy {
    /// The strategy as it stands in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::Graceful => "graceful",
            Self::Gradual => "gradual",
            Self::BlueGreen => "blue-green",
        }
    }
}

/// A transition as far as somebody says how it is to go: a manifest, a configuration, or an order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TransitionSettings {
    /// How messages pass over; `graceful` where nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<TransitionStrategy>,
    /// The steps of a gradual transition: the percentage of the messages that the new version gets, growing, 100 at
    /// the end; 1, 5, 25, 50 and 100 where nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<u8>>,
    /// How long each step of a gradual transition before the last is judged; 10 seconds where nobody says.
    #[serde(with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub interval: Option<Duration>,
    /// How long the new version is judged once it gets all messages, with the old one ready to go on; 30 seconds
    /// where nobody says.
    #[serde(with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub trial: Option<Duration>,
    /// How long the old version may take to finish what it has in hand; the `shutdown_timeout` of its worker pool where
    /// nobody says.
    #[serde(with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::duration::schema"))]
    pub patience: Option<Duration>,
    /// How many messages a blue-green transition compares; 100 where nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<u32>,
    /// The share of the compared messages, 0 to 1, for which the new version may do something else than the old; 0
    /// where nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences: Option<f64>,
    /// By how much, 0 to 1, the share of attempts that fail may be above the old version's; 0.01 where nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<f64>,
    /// How many times as long as with the old version handling may take, above 1; 2 where nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<f64>,
    /// By how many bytes the host's memory may grow while the new version is judged; 512 MiB where nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

/// Why a transition cannot go as somebody says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` of the transition {fault}")]
pub struct TransitionSettingsError {
    field: &'static str,
    fault: String,
}

impl TransitionSettingsError {
    /// What is wrong, as the rest of a sentence on the transition.
    pub(crate) fn fault(&self) -> String {
        format!("has `{}` that {}", self.field, self.fault)
    }
}

impl TransitionSettings {
    /// These settings where they say something, `others` elsewhere.
    #[must_use]
    pub fn over(self, others: Self) -> Self {
        Self {
            strategy: self.strategy.or(others.strategy),
            steps: self.steps.or(others.steps),
            interval: self.interval.or(others.interval),
            trial: self.trial.or(others.trial),
            patience: self.patience.or(others.patience),
            compare: self.compare.or(others.compare),
            differences: self.differences.or(others.differences),
            errors: self.errors.or(others.errors),
            latency: self.latency.or(others.latency),
            memory: self.memory.or(others.memory),
        }
    }

    /// Whether nobody says anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that the values can be worked with.
    ///
    /// # Errors
    /// [`TransitionSettingsError`] that names the value which cannot.
    pub fn validate(&self) -> Result<(), TransitionSettingsError> {
        let fault = |field, fault: String| Err(TransitionSettingsError { field, fault });
        if let Some(steps) = &self.steps {
            let grows =
                steps.iter().zip(steps.iter().skip(1)).all(|(before, after)| before < after);
            if !grows || steps.first().is_none_or(|first| *first == 0) || steps.last() != Some(&100)
            {
                let way_out = "they are percentages that grow from at least 1 to 100";
                return fault("steps", format!("is {steps:?}; {way_out}"));
            }
        }
        for (field, share) in [("differences", self.differences), ("errors", self.errors)] {
            if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
                return fault(field, format!("is {share}; it is a share, 0 to 1"));
            }
        }
        if let Some(latency) =
            self.latency.filter(|latency| !(*latency > 1.0 && latency.is_finite()))
        {
            return fault("latency", format!("is {latency}; it is a factor above 1"));
        }
        if self.compare == Some(0) {
            return fault("compare", "is 0; at least 1 message is compared".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_go_over_others() {
        let order: TransitionSettings =
            serde_json::from_str(r#"{"strategy": "blue-green", "trial": "2s"}"#).unwrap();
        let manifest: TransitionSettings =
            serde_json::from_str(r#"{"strategy": "gradual", "steps": [10, 100]}"#).unwrap();
        let both = order.clone().over(manifest);
        assert_eq!(both.strategy, Some(TransitionStrategy::BlueGreen));
        assert_eq!((both.steps, both.trial), (Some(vec![10, 100]), order.trial));
        assert!(TransitionSettings::default().is_empty());
    }

    #[test]
    fn what_cannot_be_worked_with_is_named() {
        for (text, word) in [
            (r#"{"steps": []}"#, "steps"),
            (r#"{"steps": [50]}"#, "steps"),
            (r#"{"steps": [0, 100]}"#, "steps"),
            (r#"{"steps": [50, 50, 100]}"#, "steps"),
            (r#"{"steps": [50, 100, 101]}"#, "steps"),
            (r#"{"differences": 1.5}"#, "differences"),
            (r#"{"errors": -0.1}"#, "errors"),
            (r#"{"latency": 1}"#, "latency"),
            (r#"{"compare": 0}"#, "compare"),
        ] {
            let settings: TransitionSettings = serde_json::from_str(text).unwrap();
            let error = settings.validate().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let fine = r#"{"steps": [1, 100], "differences": 0, "errors": 1, "latency": 1.1}"#;
        serde_json::from_str::<TransitionSettings>(fine).unwrap().validate().unwrap();
    }
}
