//! Series (a metric with a value for each label) and the bounds on their number.

use std::{fmt, sync::Arc};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString};

use super::table::{METRICS, Metric, MetricKind};
use steadfast_internal::quick_hash::QuickMap;

/// The destination of series: a given recorder, or the one that is current when a series is first used.
#[derive(Clone, Default)]
pub(super) struct Registry(Option<Arc<dyn Recorder + Send + Sync>>);

impl Registry {
    pub(super) fn of(recorder: impl Recorder + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(recorder)))
    }

    /// Describes every metric to the recorder.
    pub(super) fn describe(&self) {
        self.with(|recorder| {
            for metric in METRICS {
                let (name, help) = (KeyName::from_const_str(metric.name), SharedString::const_str(metric.help));
                match metric.kind {
                    MetricKind::Counter => recorder.describe_counter(name, metric.unit, help),
                    MetricKind::Gauge => recorder.describe_gauge(name, metric.unit, help),
                    MetricKind::Histogram => recorder.describe_histogram(name, metric.unit, help),
                }
            }
        });
    }

    /// Returns the counter's series with these label values, in the labels' order.
    pub(super) fn counter<const N: usize>(&self, metric: &Metric, values: [SharedString; N]) -> Counter {
        self.with(|recorder| recorder.register_counter(&key(metric, values), &METADATA))
    }

    /// Returns a gauge's series. See [`counter`](Self::counter).
    pub(super) fn gauge<const N: usize>(&self, metric: &Metric, values: [SharedString; N]) -> Gauge {
        self.with(|recorder| recorder.register_gauge(&key(metric, values), &METADATA))
    }

    /// Returns a histogram's series. See [`counter`](Self::counter).
    pub(super) fn histogram<const N: usize>(&self, metric: &Metric, values: [SharedString; N]) -> Histogram {
        self.with(|recorder| recorder.register_histogram(&key(metric, values), &METADATA))
    }

    fn with<T>(&self, act: impl FnOnce(&dyn Recorder) -> T) -> T {
        match &self.0 {
            Some(recorder) => act(&**recorder),
            None => metrics::with_recorder(act),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Registry(own)" } else { "Registry(current)" })
    }
}

fn key<const N: usize>(metric: &Metric, values: [SharedString; N]) -> Key {
    debug_assert_eq!(metric.labels.len(), N, "{}: one value for each label", metric.name);
    let labels: Vec<Label> = metric.labels.iter().zip(values).map(|(name, value)| Label::new(*name, value)).collect();
    Key::from_parts(metric.name, labels)
}

const METADATA: Metadata<'static> = Metadata::new("steadfast", Level::INFO, None);

/// The values of one label: the first ones up to a limit, and `other` for all later ones.
///
/// Callers can invent some values (a feature, a model where the leaf has none), and a series lives as long as the
/// process.
#[derive(Debug)]
pub(super) struct Names {
    known: Vec<Arc<str>>,
    limit: u16,
}

/// A label's value, by its order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(u16);

impl Name {
    /// The label's value for an absent name.
    pub(super) const NONE: Self = Self(u16::MAX);
    pub(super) const OTHER: Self = Self(u16::MAX - 1);
}

impl Names {
    pub(super) const fn new(limit: u16) -> Self {
        Self { known: Vec::new(), limit }
    }

    pub(super) fn name(&mut self, value: Option<&Arc<str>>) -> Name {
        let Some(value) = value else { return Name::NONE };
        // Most values are the very same allocation as before: a tier's name, a leaf's model.
        let same = |known: &Arc<str>| Arc::ptr_eq(known, value) || known == value;
        let place = self.known.iter().position(same);
        let place = place.and_then(|place| u16::try_from(place).ok());
        match place {
            Some(place) => Name(place),
            None if self.known.len() < usize::from(self.limit) => {
                self.known.push(value.clone());
                Name((self.known.len() - 1) as u16)
            }
            None => Name::OTHER,
        }
    }

    pub(super) fn text(&self, name: Name) -> SharedString {
        match self.known.get(usize::from(name.0)) {
            Some(known) => known.clone().into(),
            None if name == Name::OTHER => "other".into(),
            None => "none".into(),
        }
    }
}

/// Series by their distinguishing names, kinds and the like: small numbers that are assigned here, in order. No caller
/// can choose them to collide. A stronger hash would take two fifths of the time to record a request that another tier
/// served.
pub(super) type SeriesOf<K, V> = QuickMap<K, V>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_callers_invent_are_bounded() {
        let mut names = Names::new(2);
        let value = |text: &str| Some(Arc::<str>::from(text));
        let mut say = |text: &str| {
            let name = names.name(value(text).as_ref());
            names.text(name).to_string()
        };
        assert_eq!(["a", "b", "c", "a", "d", "b"].map(&mut say), ["a", "b", "other", "a", "other", "b"]);
        let none = names.name(None);
        assert_eq!(&*names.text(none), "none");
        assert_eq!(Names::new(0).name(value("a").as_ref()), Name::OTHER);
    }
}
