//! What a client may want to do, and to what kind of thing.

use std::fmt;

/// One of the actions that AWS IoT decides about an MQTT client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// `iot:Connect`: to be connected under a client id.
    Connect,
    /// `iot:Publish`: to send to a topic. A Last Will needs it too.
    Publish,
    /// `iot:RetainPublish`: to send with the retain flag, which needs [`Action::Publish`] besides.
    RetainPublish,
    /// `iot:Subscribe`: to ask for a topic filter, compared as it is written.
    Subscribe,
    /// `iot:Receive`: to be sent what was published on a topic.
    Receive,
}

/// The kind of thing that a resource names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceKind {
    /// `client/…`: an MQTT client id.
    Client,
    /// `topic/…`: a concrete topic.
    Topic,
    /// `topicfilter/…`: a topic filter, in which `+` and `#` are letters like any other.
    TopicFilter,
}

impl Action {
    /// Every action, for those who list or test them all.
    pub const ALL: [Self; 5] = [
        Self::Connect,
        Self::Publish,
        Self::RetainPublish,
        Self::Subscribe,
        Self::Receive,
    ];

    /// The action's name in a policy document, e.g. `iot:Connect`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "iot:Connect",
            Self::Publish => "iot:Publish",
            Self::RetainPublish => "iot:RetainPublish",
            Self::Subscribe => "iot:Subscribe",
            Self::Receive => "iot:Receive",
        }
    }

    /// The only kind of resource on which the action is decided.
    pub fn resource_kind(self) -> ResourceKind {
        match self {
            Self::Connect => ResourceKind::Client,
            Self::Publish | Self::RetainPublish | Self::Receive => ResourceKind::Topic,
            Self::Subscribe => ResourceKind::TopicFilter,
        }
    }

    /// The action of this name. AWS takes any case; one spelling is enough for documents that people review.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

impl ResourceKind {
    /// The kind's word in an ARN.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Topic => "topic",
            Self::TopicFilter => "topicfilter",
        }
    }

    /// The kind of this word.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Client, Self::Topic, Self::TopicFilter]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
