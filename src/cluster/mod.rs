//! The one judgement of a cluster, from what its members say of themselves.
//!
//! Services, health, the command line and the simulation all ask here, and the core before it does
//! what an operator wants, so that no two of them can contradict one another. Everything is a pure
//! function of [`NodeStatus`](crate::types::NodeStatus)es that were heard at about the same moment.
//! Where they leave a doubt, the worse is assumed.

pub mod recovery;
