//! The sentences of docs/contracts/middleware.md, each proven by its effect on a running host.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use echo_core::middleware::{
    After, Attempt, Before, Ending, Layer, Memo, Middleware, NamePattern, On, Outgoing, Publishing,
};
use echo_core::{Config, Host, HostBuilder};
use echo_sdk::contract::dead::DeadLetter;
use echo_sdk::{
    BaseMessage, Pattern, PluginContext, PluginError, ProcessingStatus, Received, Subscription,
};
use echo_tests::scripted::{Answer, Handler, WithHandler, handler, manifest, workers};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

fn config(toml: &str) -> Config {
    Config::parse("test.toml", toml).unwrap()
}

/// A host with one plugin, `orders`, of one worker, and this configuration.
async fn host(toml: &str, handler: Handler) -> Host {
    let manifest = manifest("orders", &["order.placed"], workers(1));
    Host::builder().config(config(toml)).with(manifest, handler).start().await.unwrap()
}

async fn watch(host: &Host, pattern: &str) -> Subscription {
    host.watch(&Pattern::new(pattern).unwrap(), 10_000).await.unwrap()
}

async fn next(subscription: &mut Subscription) -> Received {
    let next = timeout(Duration::from_secs(600), subscription.next()).await;
    next.expect("a message in time").expect("the bus is open")
}

/// The next message, if there is one before the queue of the plugin is empty.
fn now(subscription: &mut Subscription) -> Option<Received> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match subscription.poll_next(&mut context) {
        std::task::Poll::Ready(received) => received,
        std::task::Poll::Pending => None,
    }
}

async fn next_dead(subscription: &mut Subscription) -> DeadLetter {
    next(subscription).await.message.json().unwrap()
}

async fn place(host: &Host, data: &Value) -> BaseMessage {
    let client = host.client("shop");
    let message = client.message_builder().data(data).build().unwrap();
    client.publish("order.placed", message.clone()).await.unwrap();
    message
}

fn down() -> Answer {
    Err(PluginError::ProcessingError("the shop is down".into()))
}

/// A handler that counts its calls and answers by their number, from 1.
fn counting(
    answer: impl Fn(usize) -> Answer + Clone + Send + Sync + 'static,
) -> (Arc<AtomicUsize>, Handler) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let handler = handler(move |_, _, _| {
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        std::future::ready(answer(number))
    });
    (calls, handler)
}

const QUICK: &str = "[delivery]\nmax_attempts = 2\nretry_base_delay = \"10ms\"\n";

fn table(of: &str) -> String {
    format!("[[middleware]]\n{of}\n")
}

const RETRY: &str = "use = 'retry'\nmax_retries = 2\ninitial_interval = '100ms'\njitter = 0.0";
const POISON: &str = "use = 'dead_letters'\ntopic = 'poison'\nfaults = ['error', 'timed_out']";

#[tokio::test(start_paused = true)]
async fn retries_are_within_an_attempt_and_attempts_outside_of_all() {
    let (calls, handler) = counting(|_| down());
    let host = host(&format!("{QUICK}{}", table(RETRY)), handler).await;
    let mut dead = watch(&host, "dead.>").await;
    place(&host, &json!(1)).await;
    let letter = next_dead(&mut dead).await;
    assert_eq!((letter.attempts, letter.reason.as_str()), (2, "the shop is down"));
    assert_eq!(calls.load(Ordering::SeqCst), 6, "two attempts of three tries");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_outside_of_a_retry_come_after_it_and_inside_before_it() {
    for (order, tries) in [([POISON, RETRY], 3), ([RETRY, POISON], 1)] {
        let (calls, handler) = counting(|_| down());
        let host = host(&format!("{QUICK}{}", order.map(table).concat()), handler).await;
        let (mut poison, mut dead) = (watch(&host, "poison").await, watch(&host, "dead.>").await);
        let placed = place(&host, &json!({"order": 7})).await;
        let letter = next(&mut poison).await.message;
        assert_eq!(calls.load(Ordering::SeqCst), tries, "{order:?}");
        assert_eq!((letter.id(), letter.data_bytes()), (placed.id(), placed.data_bytes()));
        assert_eq!(letter.field("Echo-Dead-Reason"), Some("the shop is down"));
        let metrics = host.plugin("orders").unwrap();
        host.shutdown().await;
        assert!(now(&mut dead).is_none(), "it is acknowledged: {metrics:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_of_a_retry_limits_all_tries_and_inside_each_one() {
    const TIMEOUT: &str = "use = 'timeout'\nafter = '1s'";
    for (order, tries, seconds) in [([TIMEOUT, RETRY], 1, 1.0), ([RETRY, TIMEOUT], 3, 3.3)] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let hanging = handler(move |_, _, _| {
            counter.fetch_add(1, Ordering::SeqCst);
            std::future::pending()
        });
        let order = [POISON].iter().chain(&order).map(|of| table(of)).collect::<String>();
        let host = host(&order, hanging).await;
        let mut poison = watch(&host, "poison").await;
        let began = Instant::now();
        place(&host, &json!(1)).await;
        let letter = next(&mut poison).await.message;
        assert_eq!(calls.load(Ordering::SeqCst), tries, "{order}");
        let took = began.elapsed().as_secs_f64();
        assert!((seconds..seconds + 0.1).contains(&took), "{order}: {took}");
        let reason = letter.field("Echo-Dead-Reason").unwrap();
        assert_eq!(reason, "the handler took longer than its deadline, 1s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_breaker_counts_what_comes_out_of_what_is_inside_of_it() {
    const BREAKER: &str = "use = 'circuit_breaker'\nfailures = 3\nopen_for = '1m'";
    for (order, before_open) in [([BREAKER, RETRY], 9), ([RETRY, BREAKER], 3)] {
        let (calls, handler) =
            counting(|n| if n <= 9 { down() } else { Ok(ProcessingStatus::Acknowledged) });
        let settings = "[delivery]\nmax_attempts = 100\nretry_base_delay = '10ms'\n";
        let host = host(&format!("{settings}{}", order.map(table).concat()), handler).await;
        let began = Instant::now();
        place(&host, &json!(1)).await;
        let metrics = || host.plugin("orders").unwrap().metrics;
        // Let it run until the circuit opens: from then on the message waits for a minute.
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(calls.load(Ordering::SeqCst), before_open, "{order:?}");
        let answered = metrics().delivered;
        while metrics().acknowledged == 0 {
            assert!(began.elapsed() < Duration::from_secs(3600), "the circuit stays open");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(began.elapsed() >= Duration::from_secs(60), "{order:?}");
        assert_eq!(calls.load(Ordering::SeqCst), 10, "no call while the circuit is open");
        assert!(metrics().delivered > answered);
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_spares_the_handler_and_the_last_attempt_says_why() {
    let breaker = table("use = 'circuit_breaker'\nfailures = 1\nopen_for = '10s'");
    let (calls, handler) = counting(|_| down());
    let host = host(&format!("[delivery]\nmax_attempts = 1\n{breaker}"), handler).await;
    let mut dead = watch(&host, "dead.>").await;
    place(&host, &json!(1)).await;
    assert_eq!(next_dead(&mut dead).await.reason, "the shop is down");
    place(&host, &json!(2)).await;
    let reason = next_dead(&mut dead).await.reason;
    assert_eq!(reason, "the circuit of `orders` is open, its handler kept failing");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_pool_cuts_off_all_of_it() {
    let toml = format!(
        "{QUICK}[[plugins.register]]\nid = 'orders'\nworker_pool = {{ deadline = '150ms' }}\n{}",
        table("use = 'retry'\nmax_retries = 100\ninitial_interval = '100ms'\njitter = 0.0"),
    );
    let (calls, handler) = counting(|_| down());
    let host = host(&toml, handler).await;
    let mut dead = watch(&host, "dead.>").await;
    place(&host, &json!(1)).await;
    let letter = next_dead(&mut dead).await;
    assert_eq!(letter.reason, "the handler took longer than its deadline, 150ms");
    assert_eq!(calls.load(Ordering::SeqCst), 4, "two tries in each of two attempts");
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_try_published_is_dropped_and_a_panic_is_a_fault() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&tries);
    let handler = handler(move |context: PluginContext, _, _| {
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            context.publish_data("order.done", &json!(number)).await?;
            assert!(number != 1, "the first try panics");
            if number == 2 { down() } else { Ok(ProcessingStatus::Acknowledged) }
        }
    });
    let host = host(&table(RETRY), handler).await;
    let mut done = watch(&host, "order.done").await;
    place(&host, &json!(1)).await;
    assert_eq!(next(&mut done).await.message.data().unwrap(), &json!(3));
    let metrics = host.plugin("orders").unwrap().metrics;
    host.shutdown().await;
    assert!(now(&mut done).is_none());
    assert_eq!((metrics.delivered, metrics.retried, metrics.failed), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn delay_on_error_goes_before_the_delays_of_the_host() {
    let delay = table("use = 'delay_on_error'\ninitial_interval = '10s'");
    let (_, handler) =
        counting(|n| if n < 3 { down() } else { Ok(ProcessingStatus::Acknowledged) });
    let host = host(&delay, handler).await;
    let began = Instant::now();
    place(&host, &json!(1)).await;
    while host.plugin("orders").unwrap().metrics.acknowledged == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = began.elapsed();
    assert!((30..31).contains(&took.as_secs()), "10 and 20 seconds: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_throttle_lets_so_many_pass() {
    let throttle = table("use = 'throttle'\nrate = 10\nburst = 5");
    let (seen, mut times) = mpsc::unbounded_channel();
    let handler = handler(move |_, _, _| {
        seen.send(Instant::now()).unwrap();
        std::future::ready(Ok(ProcessingStatus::Acknowledged))
    });
    let host = host(&throttle, handler).await;
    let began = Instant::now();
    for n in 0..25 {
        place(&host, &json!(n)).await;
    }
    let mut took = Vec::new();
    while took.len() < 25 {
        took.push(times.recv().await.unwrap() - began);
    }
    assert!(took[4] < Duration::from_millis(50), "a burst at once: {took:?}");
    let last = took[24].as_secs_f64();
    assert!((1.95..2.2).contains(&last), "20 more at 10 a second: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn publishing_goes_through_the_middleware_of_its_sender() {
    let toml = [
        "use = 'throttle'\non = 'publish'\nplugins = ['shop']\nrate = 1",
        "use = 'deduplicate'\non = 'publish'\nby = '/order'\nplugins = ['sh*']",
        "use = 'correlation'",
    ]
    .map(table)
    .concat();
    let handler = handler(|context: PluginContext, _, message: BaseMessage| async move {
        context.publish_data("order.step", &json!("published")).await?;
        let next = context.message_builder().data(message.data()?).build()?;
        Ok(ProcessingStatus::Forward("order.done".parse().unwrap(), next))
    });
    let host = host(&toml, handler).await;
    let (mut step, mut done) = (watch(&host, "order.step").await, watch(&host, "order.done").await);
    let client = host.client("shop");
    let began = Instant::now();
    let mut sent = Vec::new();
    for order in [1, 1, 2] {
        let message = client.message_builder().data(&json!({ "order": order })).build().unwrap();
        client.publish("order.placed", message.clone()).await.unwrap();
        sent.push(message);
    }
    assert_eq!(began.elapsed().as_secs(), 2, "one a second");
    let refused = client.try_publish("order.placed", sent[2].clone()).unwrap_err();
    assert!(matches!(&refused, echo_sdk::PublishError::Full { slot } if slot == "throttle"));
    for index in [0, 2] {
        for subscription in [&mut step, &mut done] {
            let message = next(subscription).await.message;
            let correlation = message.field("Correlation-Id").map(str::to_owned);
            assert_eq!(correlation, Some(sent[index].id().to_string()), "{message:?}");
        }
    }
    let other = host.client("office");
    for _ in 0..5 {
        let message = other.message_builder().data(&json!({"order": 1})).build().unwrap();
        other.try_publish("order.placed", message).unwrap();
        assert!(next(&mut done).await.message.field("Correlation-Id").is_some());
    }
    host.shutdown().await;
    assert!(now(&mut done).is_none(), "the second of the shop's first order was dropped");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_acknowledged_and_one_in_hand_is_waited_for() {
    let toml = table("use = 'deduplicate'\nby = '/order'");
    let (go, calls) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (release, counter) = (Arc::clone(&go), Arc::clone(&calls));
    let handler = handler(move |_, _, _| {
        let (go, number) = (Arc::clone(&go), counter.fetch_add(1, Ordering::SeqCst));
        async move {
            go.notified().await;
            if number == 0 { down() } else { Ok(ProcessingStatus::Acknowledged) }
        }
    });
    let manifest = manifest("orders", &["order.placed"], workers(4));
    let builder = Host::builder().config(config(&toml)).with(manifest, handler);
    let host = builder.start().await.unwrap();
    for _ in 0..4 {
        place(&host, &json!({"order": 1})).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the others wait for the first");
    release.notify_one();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 2, "the first failed, so another is handled");
    release.notify_one();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let metrics = host.plugin("orders").unwrap().metrics;
    assert_eq!((calls.load(Ordering::SeqCst), metrics.acknowledged), (2, 4));
}

/// Writes down what it sees, and does what it is told to.
struct Noting {
    name: &'static str,
    diary: Arc<Mutex<Vec<String>>>,
    before: fn(&mut Attempt<'_>) -> Before,
}

impl Noting {
    fn new(name: &'static str, diary: &Arc<Mutex<Vec<String>>>) -> Self {
        Self { name, diary: Arc::clone(diary), before: |_| Before::Go }
    }

    fn note(&self, what: &str) {
        self.diary.lock().unwrap().push(format!("{what} {}", self.name));
    }
}

impl Middleware for Noting {
    fn name(&self) -> &str {
        self.name
    }

    fn publishing(&self, outgoing: &mut Outgoing<'_>) -> Publishing {
        if !outgoing.topic.as_str().starts_with("order.") {
            return Publishing::Go;
        }
        self.note("publish");
        Publishing::Go
    }

    fn before(&self, attempt: &mut Attempt<'_>, _memo: &mut Memo) -> Before {
        self.note("in");
        (self.before)(attempt)
    }

    fn after(&self, _attempt: &Attempt<'_>, _memo: &mut Memo, ending: Ending) -> After {
        self.note("out");
        After::Done(ending)
    }

    fn cut_off(&self, _attempt: &Attempt<'_>, _memo: &mut Memo) {
        self.note("cut off");
    }
}

type Diary = Arc<Mutex<Vec<String>>>;

async fn diary_of(
    build: impl FnOnce(HostBuilder, &Diary) -> HostBuilder,
    handler: Handler,
) -> Vec<String> {
    let diary = Diary::default();
    let manifest = manifest("orders", &["order.placed"], workers(1));
    let builder = build(Host::builder(), &diary).with(manifest, handler);
    let host = builder.start().await.unwrap();
    let (mut done, mut dead) = (watch(&host, "order.done").await, watch(&host, "dead.>").await);
    let client = host.client("shop");
    client.publish_data("order.placed", &json!(1)).await.unwrap();
    tokio::select! {
        _ = next(&mut done) => {}
        _ = next(&mut dead) => {}
    }
    host.shutdown().await;
    let noted = diary.lock().unwrap();
    noted.clone()
}

fn done() -> Handler {
    handler(|context: PluginContext, _, _| async move {
        context.publish_data("order.done", &json!(1)).await?;
        Ok(ProcessingStatus::Acknowledged)
    })
}

#[tokio::test(start_paused = true)]
async fn the_first_is_the_outermost_and_each_is_asked_where_it_should_be() {
    let noted = diary_of(
        |builder, diary| {
            builder
                .middleware(Layer::shared(Noting::new("a", diary)).on(On::Delivery))
                .middleware(Noting::new("b", diary))
                .middleware(
                    Layer::shared(Noting::new("c", diary))
                        .plugins([NamePattern::new("b*").unwrap()]),
                )
                .middleware(Layer::shared(Noting::new("d", diary)).on(On::Publish))
        },
        done(),
    )
    .await;
    let expected =
        ["publish b", "publish d", "in a", "in b", "publish b", "publish d", "out b", "out a"];
    assert_eq!(noted, expected);
}

#[tokio::test(start_paused = true)]
async fn those_of_the_host_are_outside_of_those_of_a_plugin() {
    let toml = "[[plugins.register]]\nid = 'orders'\nmiddleware = [\
                { use = 'dead_letters', topic = 'order.done', faults = ['error'] }]\n";
    let outer = table("use = 'dead_letters'\ntopic = 'outer.poison'\nfaults = ['error']");
    let noted = diary_of(
        |builder, diary| {
            let config = config(&format!("{toml}{outer}"));
            builder
                .config(config)
                .middleware(Layer::shared(Noting::new("code", diary)).on(On::Delivery))
        },
        counting(|_| down()).1,
    )
    .await;
    assert_eq!(noted, ["in code", "out code"], "it went to the inner one's topic");
}

#[tokio::test(start_paused = true)]
async fn who_went_in_comes_out_or_is_told_that_it_is_cut_off() {
    let answered = diary_of(
        |builder, diary| {
            let answer = |_: &mut Attempt<'_>| {
                Before::Answer(Ending::Answered(ProcessingStatus::Failed("not here".into())))
            };
            builder
                .middleware(Layer::shared(Noting::new("a", diary)).on(On::Delivery))
                .middleware(
                    Layer::shared(Noting { before: answer, ..Noting::new("b", diary) })
                        .on(On::Delivery),
                )
                .middleware(Layer::shared(Noting::new("c", diary)).on(On::Delivery))
        },
        done(),
    )
    .await;
    assert_eq!(answered, ["in a", "in b", "out a"], "the handler is not called");

    let cut_off = diary_of(
        |builder, diary| {
            let limit = |_: &mut Attempt<'_>| Before::GoWithin(Duration::from_secs(1));
            builder
                .config(config("[delivery]\nmax_attempts = 1"))
                .middleware(
                    Layer::shared(Noting { before: limit, ..Noting::new("a", diary) })
                        .on(On::Delivery),
                )
                .middleware(Layer::shared(Noting::new("b", diary)).on(On::Delivery))
                .middleware(Layer::shared(Noting::new("c", diary)).on(On::Delivery))
        },
        handler(|_, _, _| std::future::pending()),
    )
    .await;
    assert_eq!(cut_off, ["in a", "in b", "in c", "cut off c", "cut off b", "out a"]);

    let panicked = diary_of(
        |builder, diary| {
            let panics = |_: &mut Attempt<'_>| panic!("a middleware must not, yet may");
            builder
                .config(config("[delivery]\nmax_attempts = 1"))
                .middleware(Layer::shared(Noting::new("a", diary)).on(On::Delivery))
                .middleware(
                    Layer::shared(Noting { before: panics, ..Noting::new("b", diary) })
                        .on(On::Delivery),
                )
        },
        done(),
    )
    .await;
    assert_eq!(panicked, ["in a", "in b", "cut off a"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_replaced_is_seen_by_those_further_in_alone() {
    struct Double;
    impl Middleware for Double {
        fn name(&self) -> &str {
            "double"
        }
        fn before(&self, attempt: &mut Attempt<'_>, _memo: &mut Memo) -> Before {
            let doubled = attempt.message().json::<i64>().unwrap() * 2;
            let message = attempt.message().to_builder().data(&doubled).build().unwrap();
            attempt.replace(message);
            Before::Go
        }
        fn after(&self, attempt: &Attempt<'_>, _memo: &mut Memo, ending: Ending) -> After {
            assert_eq!(attempt.message().json::<i64>().unwrap() % 3, 0, "as it was further out");
            After::Done(ending)
        }
    }
    let (seen, mut handled) = mpsc::unbounded_channel();
    let handler = handler(move |_, _, message: BaseMessage| {
        seen.send(message.json::<i64>().unwrap()).unwrap();
        std::future::ready(down())
    });
    let manifest = manifest("orders", &["order.placed"], workers(1));
    let builder = Host::builder()
        .config(config(&format!("[delivery]\nmax_attempts = 1\n{}", table(RETRY))))
        .middleware(Layer::shared(Double).on(On::Delivery));
    let host = builder.with(manifest, handler).start().await.unwrap();
    let mut dead = watch(&host, "dead.>").await;
    let placed = place(&host, &json!(3)).await;
    let letter = next_dead(&mut dead).await;
    assert_eq!(letter.message.data_bytes(), placed.data_bytes());
    let mut values = Vec::new();
    while let Ok(value) = handled.try_recv() {
        values.push(value);
    }
    assert_eq!(values, [6, 6, 6], "doubled once, whatever is retried further in");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_middleware_that_waits() {
    let toml = format!("[shutdown]\ntimeout = '2s'\n{}", table("use = 'throttle'\nrate = 0.001"));
    let (calls, handler) = counting(|_| Ok(ProcessingStatus::Acknowledged));
    let host = host(&toml, handler).await;
    for n in 0..3 {
        place(&host, &json!(n)).await;
    }
    let began = Instant::now();
    let report = host.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((calls.load(Ordering::SeqCst), report.unfinished.len()), (1, 2), "{report:?}");
}

#[test]
fn a_middleware_that_cannot_be_is_told_with_its_line() {
    for (toml, line, words) in [
        ("[[middleware]]\nuse = 'retri'\n", 2, "did you mean \"retry\""),
        ("[[middleware]]\nuse = 'retry'\nmax_retires = 3\n", 3, "did you mean `max_retries`?"),
        ("[[middleware]]\nuse = 'retry'\non = 'publish'\n", 3, "delivery"),
        ("[[middleware]]\nuse = 'throttle'\nrate = 0\n", 3, "at least"),
        ("[[middleware]]\nuse = 'throttle'\n", 1, "missing key `rate`"),
        ("[[middleware]]\non = 'delivery'\n", 1, "`use`"),
        ("[[middleware]]\nuse = 'log'\nplugins = ['a b']\n", 3, "does not match"),
        ("[[middleware]]\nuse = 'deduplicate'\nwindow = '0s'\n", 3, "nothing would be remembered"),
        (
            "[[plugins.register]]\nid = 'a'\nmiddleware = [{ use = 'log', plugins = ['b'] }]\n",
            3,
            "for that plugin alone",
        ),
    ] {
        let error = Config::parse("echo-core.toml", toml).unwrap_err();
        let echo_core::config::ConfigError::File(faults) = &error else { panic!("{error:?}") };
        let told: Vec<_> =
            faults.iter().map(|fault| format!("{} {:?}", fault.message, fault.help)).collect();
        assert!(told.iter().any(|fault| fault.contains(words)), "{toml}{told:?}");
        assert!(faults.iter().any(|fault| fault.line == line), "{toml}{told:?}");
    }
}
