//! What follows a token: few children in a row, many in a persistent map.

use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use smol_str::SmolStr;

/// Up to so many are looked through one by one, which is faster than hashing.
const FEW: usize = 8;

/// Topics come from outside: the hash is seeded, so that nobody can aim at collisions.
type Map<N> = GenericHashMap<SmolStr, N, foldhash::fast::RandomState, DefaultSharedPtr>;

/// Children by their token. Short tokens stand in the child's own place, so comparing them touches nothing else.
#[derive(Debug, Clone)]
pub(super) enum ChildrenOf<N> {
    Few(Vec<(SmolStr, N)>),
    Many(Map<N>),
}

impl<N> Default for ChildrenOf<N> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<N> ChildrenOf<N> {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    pub(super) fn get(&self, token: &str) -> Option<&N> {
        match self {
            Self::Few(few) => few.iter().find(|(own, _)| own == token).map(|(_, child)| child),
            Self::Many(many) => many.get(token),
        }
    }
}

impl<N: Clone + Default> ChildrenOf<N> {
    pub(super) fn get_mut(&mut self, token: &str) -> Option<&mut N> {
        match self {
            Self::Few(few) => few.iter_mut().find(|(own, _)| own == token).map(|(_, child)| child),
            Self::Many(many) => many.get_mut(token),
        }
    }

    pub(super) fn get_or_insert(&mut self, token: &str) -> &mut N {
        if let Self::Few(few) = self
            && few.len() == FEW
            && few.iter().all(|(own, _)| own != token)
        {
            *self = Self::Many(few.drain(..).collect());
        }
        match self {
            Self::Many(many) => many.entry(SmolStr::new(token)).or_default(),
            Self::Few(few) => {
                let known = few.iter().position(|(own, _)| own == token);
                let place = known.unwrap_or(few.len());
                if known.is_none() {
                    few.push((SmolStr::new(token), N::default()));
                }
                // Found, or pushed just now.
                #[allow(clippy::indexing_slicing)]
                &mut few[place].1
            }
        }
    }

    pub(super) fn remove(&mut self, token: &str) {
        match self {
            Self::Few(few) => few.retain(|(own, _)| own != token),
            Self::Many(many) => {
                many.remove(token);
                // Half of the bound, so that a child that comes and goes does not turn it over each time.
                if many.len() <= FEW / 2 {
                    *self = Self::Few(std::mem::take(many).into_iter().collect());
                }
            }
        }
    }
}
