//! Request frames, as a connection gets them: header, then the body of that API and version.

#![no_main]

#[path = "../../net/wire/tests/support/mod.rs"]
mod support;

use highwater_wire::ApiKey;
use highwater_wire::header::RequestHeader;
use libfuzzer_sys::fuzz_target;
use support::for_each_api;

fuzz_target!(|frame: &[u8]| {
    let Ok((header, at)) = RequestHeader::parse(frame) else {
        return;
    };
    let Some(api) = ApiKey::from_code(header.api_key) else {
        return;
    };
    let version = header.api_version;
    if !api.answers(version) {
        return;
    }
    let body = &frame[at..];
    let name = format!("{api:?}Request");
    macro_rules! every {
        ($($module:ident $request:ident $response:ident,)*) => {
            $(if name == stringify!($request) {
                let Ok(message) = highwater_wire::$module::$request::parse(version, body) else {
                    return;
                };
                let mut out = Vec::new();
                message.encode(version, &mut out).expect("what was decoded encodes");
                let again = highwater_wire::$module::$request::parse(version, &out);
                assert_eq!(again, Ok(message));
                return;
            })*
        };
    }
    for_each_api!(every);
    unreachable!("{name} is missing from the table");
});
