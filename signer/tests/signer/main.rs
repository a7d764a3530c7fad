//! The signer and the device's side of enrollment against verifiers that are not ours: OpenSSL.

#[cfg(test)]
mod attention;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod enrollment;
#[cfg(test)]
mod faulty;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod interruption;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod openssl;
#[cfg(test)]
mod received;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod world;
