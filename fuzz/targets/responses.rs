//! Response bodies, as the client gets them. The first two bytes pick API and version.

#![no_main]

#[path = "../../net/wire/tests/support/mod.rs"]
mod support;

use highwater_wire::ApiKey;
use highwater_wire::header::decode_response_header;
use libfuzzer_sys::fuzz_target;
use support::for_each_api;

fuzz_target!(|bytes: &[u8]| {
    let [api, version, frame @ ..] = bytes else {
        return;
    };
    let api = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
    let versions = i16::from(*version) % (api.version_max() - api.version_min() + 1);
    let version = api.version_min() + versions;
    let Ok((_, at)) = decode_response_header(api, version, frame) else {
        return;
    };
    let body = &frame[at..];
    let name = format!("{api:?}Response");
    macro_rules! every {
        ($($module:ident $request:ident $response:ident,)*) => {
            $(if name == stringify!($response) {
                let Ok(message) = highwater_wire::$module::$response::parse(version, body) else {
                    return;
                };
                let mut out = Vec::new();
                message.encode(version, &mut out).expect("what was decoded encodes");
                let again = highwater_wire::$module::$response::parse(version, &out);
                assert_eq!(again, Ok(message));
                return;
            })*
        };
    }
    for_each_api!(every);
    unreachable!("{name} is missing from the table");
});
