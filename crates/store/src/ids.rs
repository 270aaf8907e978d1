//! The ids of stored objects: UUIDv7, so that ids sort by the time they were made. One type per kind, because a
//! message's id where a conversation's belongs would be a query that quietly finds nothing.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id; within one process later ids are larger.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id_type! {
    /// Who an object belongs to.
    OwnerId
}
id_type! {
    /// A conversation.
    ConversationId
}
id_type! {
    /// A message of a conversation.
    MessageId
}
id_type! {
    /// A job.
    JobId
}
