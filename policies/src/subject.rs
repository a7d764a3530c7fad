//! Who asks.

use crate::name;
use crate::{NameError, Variable};

/// A client as policy documents see it: its client id, and what its certificate's subject says.
///
/// Its values are checked here, so that no client can put a wildcard or a further level into a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    client_id: Box<str>,
    common_name: Option<Box<str>>,
    organization: Option<Box<str>>,
    organizational_unit: Option<Box<str>>,
}

/// Why a client cannot be a subject, and so may do nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client's {variable} cannot be used in topics")]
pub struct SubjectError {
    /// The value that cannot.
    pub variable: Variable,
    /// What is wrong with it.
    #[source]
    pub source: NameError,
}

impl Subject {
    /// A client of this id whose certificate has no subject.
    pub fn new(client_id: &str) -> Result<Self, SubjectError> {
        Ok(Self {
            client_id: checked(Variable::ClientId, client_id)?,
            common_name: None,
            organization: None,
            organizational_unit: None,
        })
    }

    /// The same client with this common name (CN) in its certificate.
    pub fn with_common_name(mut self, value: &str) -> Result<Self, SubjectError> {
        self.common_name = Some(checked(Variable::CommonName, value)?);
        Ok(self)
    }

    /// The same client with this organization (O) in its certificate: its system.
    pub fn with_organization(mut self, value: &str) -> Result<Self, SubjectError> {
        self.organization = Some(checked(Variable::Organization, value)?);
        Ok(self)
    }

    /// The same client with this organizational unit (OU) in its certificate: its device name.
    pub fn with_organizational_unit(mut self, value: &str) -> Result<Self, SubjectError> {
        self.organizational_unit = Some(checked(Variable::OrganizationalUnit, value)?);
        Ok(self)
    }

    /// The client id.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// What stands for this variable; none when the certificate does not say.
    pub fn value(&self, variable: Variable) -> Option<&str> {
        match variable {
            Variable::ClientId => Some(&self.client_id),
            Variable::CommonName => self.common_name.as_deref(),
            Variable::Organization => self.organization.as_deref(),
            Variable::OrganizationalUnit => self.organizational_unit.as_deref(),
        }
    }
}

fn checked(variable: Variable, value: &str) -> Result<Box<str>, SubjectError> {
    match name::check(value) {
        Ok(()) => Ok(value.into()),
        Err(source) => Err(SubjectError { variable, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_checked() {
        let hostile = [
            "*",
            "?",
            "+",
            "#",
            "a/b",
            "$SYS",
            "${iot:ClientId}",
            "",
            "a\nuser b",
        ];
        for value in hostile {
            let plain = || Subject::new("333.hula.atlas").unwrap();
            let refused = [
                (Variable::ClientId, Subject::new(value)),
                (Variable::CommonName, plain().with_common_name(value)),
                (Variable::Organization, plain().with_organization(value)),
                (
                    Variable::OrganizationalUnit,
                    plain().with_organizational_unit(value),
                ),
            ];
            for (variable, result) in refused {
                assert_eq!(result.unwrap_err().variable, variable, "{value:?}");
            }
        }
    }

    #[test]
    fn what_a_certificate_does_not_say_is_missing() {
        let subject = Subject::new("id")
            .unwrap()
            .with_organization("hula")
            .unwrap();
        assert_eq!(subject.value(Variable::ClientId), Some("id"));
        assert_eq!(subject.value(Variable::Organization), Some("hula"));
        assert_eq!(subject.value(Variable::CommonName), None);
        assert_eq!(subject.value(Variable::OrganizationalUnit), None);
    }
}
