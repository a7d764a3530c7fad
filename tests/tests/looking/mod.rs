//! What a person sees who looks: completion, the list, the doctor.

mod certificate;
mod completions;
mod doctor;
mod list;
mod presences;
