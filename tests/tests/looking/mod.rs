//! What a person sees who looks for what is wrong: the doctor.

mod certificate;
mod doctor;
