//! Any text is refused, or is a name, an id, a suffix or a lease that prints as the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{ClientIdSuffix, DeviceId, Label, LeaseId};

fuzz_target!(|text: &str| {
    if let Ok(label) = text.parse::<Label>() {
        assert_eq!(label.to_string(), text);
    }
    if let Ok(id) = text.parse::<DeviceId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(suffix) = text.parse::<ClientIdSuffix>() {
        assert_eq!(suffix.to_string(), text);
    }
    if let Ok(lease) = text.parse::<LeaseId>() {
        assert_eq!(lease.to_string(), text);
    }
    if let Some((client_id, suffix)) = text.split_once('\n')
        && let Ok(suffix) = suffix.parse::<ClientIdSuffix>()
        && let Ok(id) = suffix.device_id(client_id)
    {
        assert_eq!(suffix.client_id(&id), client_id);
    }
});
