//! The bus that a host of this process runs on, as the configuration says.

use std::sync::Arc;

use echo_bus::{Admission, Transport};
use echo_core::config::{BusUrl, Config, NatsConfig, StreamStorage};
use echo_core::schema::Schemas;
use echo_nats::{
    Credentials, DurableOptions, DurableTopics, NatsError, NatsOptions, NatsTransport, Storage, Tls,
};

use crate::exit::Failure;
use crate::host::CLIENT;

/// What keeps dead letters; the transport makes a stream of its own for them.
const DEAD: &str = "dead.>";

/// Connects to the NATS server that the configuration names; none where the bus is within this process, which the host
/// makes itself.
///
/// # Errors
/// [`Failure`] when no server answers, or it cannot be as the configuration says.
pub async fn connect(
    config: &Config,
    schemas: &Arc<Schemas>,
) -> Result<Option<Arc<dyn Transport>>, Failure> {
    let BusUrl::Nats(urls) = &config.bus.url else { return Ok(None) };
    let options = NatsOptions {
        urls: urls.clone(),
        name: CLIENT.to_owned(),
        credentials: credentials(&config.bus.nats).await?,
        tls: tls(&config.bus.nats),
        max_payload: config.bus.max_payload,
        admission: Some(Arc::clone(schemas) as Arc<dyn Admission>),
        durable: durable(config),
        ..NatsOptions::default()
    };
    let transport = NatsTransport::connect(options).await.map_err(failure)?;
    Ok(Some(Arc::new(transport)))
}

/// What the configuration says is for a person to mend; the rest is up to the surroundings.
fn failure(error: NatsError) -> Failure {
    match error {
        NatsError::Address { .. } | NatsError::CredentialsFile { .. } => Failure::usage(error),
        _ => Failure::surroundings(error),
    }
}

async fn credentials(nats: &NatsConfig) -> Result<Credentials, Failure> {
    if let (Some(user), Some(password)) = (&nats.user, &nats.password) {
        let (user, password) = (user.clone(), password.reveal().to_owned());
        return Ok(Credentials::Password { user, password });
    }
    if let Some(token) = &nats.token {
        return Ok(Credentials::Token(token.reveal().to_owned()));
    }
    if let Some(file) = &nats.nkey {
        let seed = tokio::fs::read_to_string(file).await.map_err(|error| {
            let file = file.display();
            Failure::usage(format!("the NKey in {file} of `bus.nats.nkey` cannot be read: {error}"))
        })?;
        return Ok(Credentials::NKey(seed.trim().to_owned()));
    }
    Ok(nats.creds.clone().map_or(Credentials::None, Credentials::File))
}

fn tls(nats: &NatsConfig) -> Tls {
    let identity = nats.cert.clone().zip(nats.key.clone());
    // An address that begins with tls:// asks for it.
    Tls { required: false, ca: nats.ca.clone(), identity }
}

fn durable(config: &Config) -> DurableOptions {
    let topics = config.bus.durable.topics.iter();
    let patterns: Vec<_> = topics.filter(|pattern| pattern.as_str() != DEAD).cloned().collect();
    let stream = config.bus.nats.stream.clone();
    let topics = (!patterns.is_empty()).then_some(DurableTopics { stream, patterns });
    let NatsConfig { storage, replicas, max_age, max_bytes, prefetch, .. } = config.bus.nats;
    let NatsConfig { partitions, ack_wait, confirm_acks, .. } = config.bus.nats;
    DurableOptions {
        topics: topics.into_iter().collect(),
        storage: match storage {
            StreamStorage::File => Storage::File,
            StreamStorage::Memory => Storage::Memory,
        },
        replicas,
        max_age,
        max_bytes: max_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        prefetch,
        partitions,
        ack_wait,
        confirm_acks,
        ..DurableOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echo_sdk::Pattern;
    use std::time::Duration;

    #[test]
    fn durable_topics_share_a_stream_and_dead_letters_have_their_own() {
        let mut config = Config::default();
        assert_eq!(durable(&config).topics, []);
        config.bus.durable.topics =
            ["orders.>", DEAD].map(|text| Pattern::new(text).unwrap()).to_vec();
        let [topics] = &durable(&config).topics[..] else { panic!("one stream") };
        assert_eq!(topics.stream, "ECHO");
        assert_eq!(topics.patterns, [Pattern::new("orders.>").unwrap()]);
        config.bus.nats.partitions = 4;
        config.bus.nats.ack_wait = Duration::from_secs(3);
        config.bus.nats.confirm_acks = true;
        config.bus.nats.storage = StreamStorage::Memory;
        config.bus.nats.max_age = Some(Duration::from_secs(60));
        config.bus.nats.max_bytes = Some(1 << 30);
        config.bus.nats.prefetch = 7;
        config.bus.nats.replicas = 3;
        let durable = durable(&config);
        let limits = (durable.max_age, durable.max_bytes, durable.prefetch);
        assert_eq!(limits, (Some(Duration::from_secs(60)), Some(1 << 30), 7));
        assert_eq!((durable.storage, durable.replicas), (Storage::Memory, 3));
        let said = (durable.partitions, durable.ack_wait, durable.confirm_acks);
        assert_eq!(said, (4, Duration::from_secs(3), true));
    }

    #[tokio::test]
    async fn a_host_shows_what_the_configuration_says() {
        let folder = tempfile::tempdir().unwrap();
        let seed = folder.path().join("host.nk");
        std::fs::write(&seed, "SUA\n").unwrap();
        let none = NatsConfig::default();
        assert!(matches!(credentials(&none).await, Ok(Credentials::None)));
        let nkey = NatsConfig { nkey: Some(seed), ..NatsConfig::default() };
        let shown = credentials(&nkey).await.unwrap_or_default();
        assert_eq!(shown, Credentials::NKey("SUA".to_owned()));
        let missing = NatsConfig { nkey: Some("no/such".into()), ..NatsConfig::default() };
        assert!(credentials(&missing).await.is_err());
    }
}
