//! Values that fit none of several schemas: `anyOf` and `oneOf`.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;

use crate::explain::{Explain, options};
use crate::fault::Fault;
use crate::words::{self, what};

impl Explain<'_> {
    /// The faults of a value against the one alternative that it comes nearest to, or else the words for
    /// what all of them would have taken.
    pub(crate) fn alternatives(
        &self,
        error: &ValidationError<'_>,
        branches: &[Vec<ValidationError<'static>>],
    ) -> Vec<Fault> {
        let at = error.instance_path().as_str();
        let meant = |branch: &&Vec<ValidationError<'_>>| !branch.iter().any(|e| is_misfit(e, at));
        if let Some(nearest) = branches.iter().filter(meant).min_by_key(|branch| branch.len()) {
            return nearest.iter().flat_map(|error| self.faults(error)).collect();
        }
        let misfits = branches.iter().flatten().filter(|error| is_misfit(error, at));
        let misfits: Vec<&ValidationError<'_>> = misfits.collect();
        vec![self.joint_choice(&misfits).unwrap_or_else(|| self.joint_types(error, &misfits))]
    }

    /// Alternatives that are told apart by the values of one key, as a choice among these.
    fn joint_choice(&self, misfits: &[&ValidationError<'_>]) -> Option<Fault> {
        // Choices say of themselves that they are strings; and null is nothing that a file could choose.
        let mute = |error: &ValidationError<'_>| {
            matches!(error.kind(), Kind::Type { .. })
                && matches!(self.expected(error).as_str(), "" | "a string")
        };
        let mut telling = misfits.iter().filter(|error| !mute(error)).peekable();
        let first = telling.peek()?;
        let (at, instance) = (first.instance_path().as_str(), first.instance());
        let mut choices = Vec::new();
        for error in telling {
            if error.instance_path().as_str() != at {
                return None;
            }
            choices.extend(options(error)?);
        }
        Some(self.choice(at, instance, &choices))
    }

    /// Alternatives of other types, each of which would be right.
    fn joint_types(&self, error: &ValidationError<'_>, misfits: &[&ValidationError<'_>]) -> Fault {
        let mut expected: Vec<String> = Vec::new();
        for misfit in misfits {
            let one = self.expected(misfit);
            if !one.is_empty() && !expected.contains(&one) {
                expected.push(one);
            }
        }
        let must = format!("must be {}", words::join(&expected, "or"));
        let judgement = format!("is {}; it {must}", what(error.instance()));
        self.fault(error.instance_path().as_str(), &judgement).label(must)
    }
}

/// Whether an error says that a schema is meant for something else: a value of another type, or another
/// value of the key that tells alternatives apart.
fn is_misfit(error: &ValidationError<'_>, at: &str) -> bool {
    match error.kind() {
        Kind::Type { .. } | Kind::Enum { .. } => error.instance_path().as_str() == at,
        Kind::Constant { .. } => true,
        _ => false,
    }
}
