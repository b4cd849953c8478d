//! Logs and traces about Counterfoil itself, to standard error and, when asked, to an OTLP endpoint.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::Telemetry;

/// Ends telemetry in order when dropped: buffered spans are sent.
#[derive(Debug)]
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take() {
            let _ = provider.shutdown(); // nobody is left to tell
        }
    }
}

/// Starts logging. Colour only on a terminal.
pub fn start(config: &Telemetry) -> Result<Guard> {
    // A span per delivery is made only for somebody who collects spans.
    let spans = if config.otlp_endpoint.is_some() { "info,counterfoil::intake=debug" } else { "info" };
    let filter = config.filter.as_deref().unwrap_or(spans);
    let filter = EnvFilter::try_new(filter).with_context(|| format!("telemetry.filter = {filter:?}"))?;
    let text = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let text =
        if config.json_logs { text.json().boxed() } else { text.with_ansi(std::io::stderr().is_terminal()).boxed() };
    let provider = config.otlp_endpoint.as_deref().map(provider).transpose()?;
    let spans = provider.as_ref().map(|p| tracing_opentelemetry::layer().with_tracer(p.tracer("counterfoil")));
    tracing_subscriber::registry().with(filter).with(text).with(spans).try_init().context("start logging")?;
    Ok(Guard(provider))
}

fn provider(endpoint: &str) -> Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()
        .with_context(|| format!("telemetry.otlp_endpoint = {endpoint:?}"))?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name("counterfoil").build())
        .build())
}
