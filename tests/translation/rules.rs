//! Each rule of the table, met by a request that has the feature.
