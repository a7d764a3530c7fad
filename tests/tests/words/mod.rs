//! What people read, word by word: errors with their causes and hints, and tables. What has changed is written by
//! `INSTA_UPDATE=always cargo nextest run -p e2e words`, and the difference is reviewed.

mod accounts;
mod book;
mod breaking;
mod broken;
mod elsewhere;
mod errors;
mod tables;
