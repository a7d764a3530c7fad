//! What a document may say of the client that asks.

use std::fmt;

/// A value of the client that a document may speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variable {
    /// `${iot:ClientId}`; every client has one.
    ClientId,
    /// `${iot:Certificate.Subject.CommonName}`.
    CommonName,
    /// `${iot:Certificate.Subject.Organization}`.
    Organization,
    /// `${iot:Certificate.Subject.OrganizationalUnit}`.
    OrganizationalUnit,
}

impl Variable {
    /// Every variable.
    pub const ALL: [Self; 4] = [
        Self::ClientId,
        Self::CommonName,
        Self::Organization,
        Self::OrganizationalUnit,
    ];

    /// The variable's name in a document, without `${` and `}`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientId => "iot:ClientId",
            Self::CommonName => "iot:Certificate.Subject.CommonName",
            Self::Organization => "iot:Certificate.Subject.Organization",
            Self::OrganizationalUnit => "iot:Certificate.Subject.OrganizationalUnit",
        }
    }

    /// Whether a client may be without a value for it, as a certificate may leave out any part of its subject.
    pub fn may_be_missing(self) -> bool {
        match self {
            Self::ClientId => false,
            Self::CommonName | Self::Organization | Self::OrganizationalUnit => true,
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
