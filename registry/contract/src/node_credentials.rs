//! The file of credentials that nodes pull with.
//!
//! One credential a line, `USER:sha256:HEX`, where HEX is the SHA-256 of the password; empty lines and lines that begin
//! with `#` are skipped. A plain hash is enough, and a slow one would only slow pulls down, because a password is 256 random
//! bits and nothing that a human chose. While a credential rotates the file holds the old one and the new one.
