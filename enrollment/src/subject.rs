//! The subject of a device's certificate: CN = client id, OU = device, O = system, in this order.

use protocol::{ClientIdSuffix, DeviceId};
use rcgen::{DistinguishedName, DnType};
use x509_parser::oid_registry::{
    OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME, OID_X509_ORGANIZATIONAL_UNIT,
};
use x509_parser::x509::X509Name;

/// The subject as it is written into requests and certificates.
pub fn distinguished_name(id: &DeviceId, suffix: &ClientIdSuffix) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, suffix.client_id(id));
    name.push(DnType::OrganizationalUnitName, id.device().as_str());
    name.push(DnType::OrganizationName, id.system().as_str());
    name
}

/// The subject as people read it.
pub fn text(id: &DeviceId, suffix: &ClientIdSuffix) -> String {
    format!(
        "CN={}, OU={}, O={}",
        suffix.client_id(id),
        id.device(),
        id.system()
    )
}

/// Whether a name is exactly this device's subject: these three attributes, in this order, each alone in its part.
pub fn is_of(name: &X509Name<'_>, id: &DeviceId, suffix: &ClientIdSuffix) -> bool {
    let expected = [
        (OID_X509_COMMON_NAME, suffix.client_id(id)),
        (OID_X509_ORGANIZATIONAL_UNIT, id.device().to_string()),
        (OID_X509_ORGANIZATION_NAME, id.system().to_string()),
    ];
    name.iter_rdn().count() == expected.len()
        && name.iter_rdn().zip(&expected).all(|(part, (kind, value))| {
            let mut attributes = part.iter();
            let only = attributes.next();
            attributes.next().is_none()
                && only.is_some_and(|attribute| {
                    attribute.attr_type() == kind && attribute.as_str() == Ok(value.as_str())
                })
        })
}
