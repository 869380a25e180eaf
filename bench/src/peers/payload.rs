//! What peers that carry any type carry: a message as small as it can be with all that is asked of it.

use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;

use crate::work::{DATA, Making, Reading};

/// A message: id, time, data. A handle to it is cheap to clone.
pub(super) type Payload = Arc<Content>;

pub(super) struct Content {
    id: Uuid,
    made: SystemTime,
    data: [u8; DATA.len()],
}

impl Content {
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }
}

/// A new message in one allocation; nobody checks that its data is JSON.
pub(super) fn fresh() -> Payload {
    Arc::new(Content { id: Uuid::now_v7(), made: SystemTime::now(), data: *DATA })
}

/// Another handle to the prebuilt message, or a new message.
pub(super) fn next(making: Making, prebuilt: &Payload) -> Payload {
    match making {
        Making::Prebuilt => Arc::clone(prebuilt),
        Making::Fresh => fresh(),
    }
}

/// What a handler does: reads one field of what was made for it, and lets the message go.
pub(super) fn handle(making: Making, message: Payload) {
    if making == Making::Fresh {
        let reading = serde_json::from_slice::<Reading>(&message.data);
        std::hint::black_box(reading.map(|reading| reading.number).ok());
    }
    std::hint::black_box((message.id, message.made));
}
