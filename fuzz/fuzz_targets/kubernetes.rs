//! Kubernetes: lists of objects, cut into stretches, and the audit log.
#![no_main]

use ingest::{k8s_objects, lines::Format};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((size, data)) = data.split_first() else { return };
    fuzz::lines(&Format::K8sAudit, data);
    fuzz::lines(&Format::K8sObjects, data);
    let mut end = 0;
    let stretches = k8s_objects::stretches(data, usize::from(*size));
    assert!(!stretches.is_empty());
    for stretch in stretches {
        assert!(stretch.at >= end, "stretches do not overlap");
        end = stretch.at + stretch.bytes.len();
        assert_eq!(stretch.bytes, &data[stretch.at..end]);
        if let Some(envelope) = &stretch.envelope {
            let list = envelope.around(stretch.bytes);
            serde_json::from_slice::<&serde_json::value::RawValue>(&list)
                .expect("items with their envelope are JSON again");
        }
    }
});
