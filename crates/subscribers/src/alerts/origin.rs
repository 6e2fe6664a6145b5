use std::sync::Arc;

/// The place that alerts come from: a deployment, and the process of it that speaks.
///
/// The source is part of an alert's [id](super::Alert::id), so that no deployment ends another one's alert. The
/// instance is not: the replicas of one deployment share their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    source: Arc<str>,
    instance: Arc<str>,
}

impl Origin {
    /// Creates the origin of an instance of this deployment.
    pub fn new(source: impl Into<Arc<str>>, instance: impl Into<Arc<str>>) -> Self {
        Self { source: source.into(), instance: instance.into() }
    }

    /// Creates the origin of a process that is a deployment of its own.
    pub fn of(instance: impl Into<Arc<str>>) -> Self {
        let instance = instance.into();
        Self { source: instance.clone(), instance }
    }

    /// Returns the deployment's name.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the process's name.
    pub fn instance(&self) -> &str {
        &self.instance
    }
}

impl Default for Origin {
    /// Returns the origin of a process without a name.
    fn default() -> Self {
        Self::of("steadfast")
    }
}
