//! Lines that people search the log for.

use longshore_reconciler::LogLine;

/// Writes a line that people search the log for, with exactly the fields that they know.
pub(crate) fn log(line: &LogLine) {
    let adapter = line.adapter.to_string();
    let pods: Vec<_> = line.engines.iter().map(ToString::to_string).collect();
    let (pod, error) = (pods.join(" "), line.error.as_deref());
    if error.is_some() {
        tracing::warn!(modelAdapter = adapter, pod, error, "{}", line.message);
    } else {
        tracing::info!(modelAdapter = adapter, pod, "{}", line.message);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use longshore_types::{AdapterKey, EngineId, Namespace, ObjectKey, ObjectName, OwnerKind};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(error: Option<&str>, engines: &[&str]) -> String {
        let namespace = Namespace::default_namespace();
        let object = ObjectKey {
            namespace: namespace.clone(),
            kind: OwnerKind::ModelAdapter,
            name: ObjectName::new("sql").unwrap(),
        };
        let line = LogLine {
            message: "Retriable error loading adapter",
            adapter: AdapterKey { object, name: "sql".parse().unwrap() },
            engines: engines.iter().map(|name| EngineId::new(namespace.clone(), name)).collect(),
            error: error.map(Into::into),
        };
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .without_time()
            .with_ansi(false)
            .with_target(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || log(&line));
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap().trim().to_owned()
    }

    #[test]
    fn a_log_line_has_the_fields_that_people_search_for() {
        assert_eq!(
            logged(Some("connection refused"), &["pod-1"]),
            r#"WARN Retriable error loading adapter modelAdapter="default/sql" pod="pod-1" error="connection refused""#
        );
        assert_eq!(
            logged(None, &["pod-1", "pod-2"]),
            r#"INFO Retriable error loading adapter modelAdapter="default/sql" pod="pod-1 pod-2""#
        );
    }
}
