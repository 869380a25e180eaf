//! Between two pieces of work that never wait.

use std::future::poll_fn;
use std::task::Poll;

/// Lets the tasks that are ready run once, then goes on. Other than tokio's `yield_now` it does not wait until there
/// is nothing else to do.
pub async fn give_way() {
    let mut has_given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
