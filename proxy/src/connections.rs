//! A bound on connections: one more than the most is closed at once, before it costs anything else.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::sync::Semaphore;

/// An application behind a bound on its connections.
pub struct Bounded<A> {
    app: Arc<A>,
    free: Semaphore,
}

impl<A> Bounded<A> {
    /// At most `connections_max` at once.
    pub fn new(app: A, connections_max: usize) -> Self {
        Self { app: Arc::new(app), free: Semaphore::new(connections_max) }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Bounded<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let _connection = self.free.try_acquire().ok()?;
        self.app.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}
