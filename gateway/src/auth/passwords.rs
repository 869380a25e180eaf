//! Passwords: slow to check on purpose, so checked off the runtime's threads and a few at a time.
//!
//! A check runs to its end even when the client that asked is gone, and holds its place meanwhile, so no
//! number of clients makes more checks run than there are places. A password that was right once is
//! remembered as a keyed hash under a key that lives as long as the process, so that a client that says it
//! with every request pays once.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use echo_core::config::UserConfig;
use parking_lot::Mutex;
use ring::hmac;
use tokio::sync::Semaphore;

use super::{Access, AuthError, AuthSetupError};

/// How many logins may wait for their check; the next one is told to come again.
const WAITING: usize = 256;

/// A hash of nobody's password, of the usual cost: an unknown user is refused as slowly as a known one.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGlzIGhlcmU$q6VQfkOtbC9BbDZQ2Xu1YlVqXnPM3wM3C1lnTJp0s1I";

/// The users that log in with passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    users: Vec<User>,
    key: hmac::Key,
    places: Arc<Semaphore>,
    waiting: Semaphore,
}

#[derive(Debug)]
struct User {
    name: String,
    hash: String,
    access: Access,
    /// The last password that was right, as a keyed hash.
    remembered: Mutex<Option<hmac::Tag>>,
}

impl Passwords {
    pub(super) fn new(users: &[UserConfig], key: hmac::Key) -> Result<Self, AuthSetupError> {
        let users = users.iter().map(User::new).collect::<Result<_, _>>()?;
        let places = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1);
        Ok(Self {
            users,
            key,
            places: Arc::new(Semaphore::new(places)),
            waiting: Semaphore::new(WAITING),
        })
    }

    /// Lets a user in whose password is right.
    pub(super) async fn admit(&self, name: &str, password: &str) -> Result<Access, AuthError> {
        let user = self.users.iter().find(|user| user.name == name);
        if let Some(user) = user.filter(|user| user.remembers(&self.key, password)) {
            return Ok(user.access.clone());
        }
        let hash = user.map_or(NOBODY, |user| &user.hash).to_owned();
        let is_right = self.check(hash, password.to_owned()).await?;
        let user = user.filter(|_| is_right).ok_or(AuthError::Refused)?;
        *user.remembered.lock() = Some(hmac::sign(&self.key, password.as_bytes()));
        Ok(user.access.clone())
    }

    async fn check(&self, hash: String, password: String) -> Result<bool, AuthError> {
        let waiting = self.waiting.try_acquire().map_err(|_| AuthError::Busy)?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| AuthError::Busy)?;
        drop(waiting);
        let check = tokio::task::spawn_blocking(move || {
            let _place = place;
            verify(&hash, &password)
        });
        // A check that was cut off, because the runtime ends, lets nobody in.
        Ok(check.await.unwrap_or(false))
    }
}

impl User {
    fn new(config: &UserConfig) -> Result<Self, AuthSetupError> {
        let hash = config.password.reveal();
        let is_hash = PasswordHash::new(hash)
            .is_ok_and(|hash| hash.algorithm.as_str().starts_with("argon2") && hash.hash.is_some());
        if !is_hash {
            return Err(AuthSetupError::PasswordHash { user: config.user.clone() });
        }
        Ok(Self {
            name: config.user.clone(),
            hash: hash.to_owned(),
            access: Access::new(&config.user, config.permissions(), None),
            remembered: Mutex::new(None),
        })
    }

    fn remembers(&self, key: &hmac::Key, password: &str) -> bool {
        let remembered = *self.remembered.lock();
        remembered.is_some_and(|tag| hmac::verify(key, password.as_bytes(), tag.as_ref()).is_ok())
    }
}

fn verify(hash: &str, password: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

/// Makes the hash of a password that `gateway.users` takes. It takes tens of milliseconds.
///
/// # Errors
/// [`AuthSetupError::Random`] when the system has no randomness for the salt.
pub fn hash_password(password: &str) -> Result<String, AuthSetupError> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|_| AuthSetupError::Random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_costs_as_much_as_a_known_one() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let usual = hash_password("a").unwrap();
        assert_eq!(nobody.params, PasswordHash::new(&usual).unwrap().params);
        assert!(!verify(NOBODY, "") && !verify(NOBODY, "nobody"));
    }
}
