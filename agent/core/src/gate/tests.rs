//! The gates, each as a table.
