#!/usr/bin/env python3
"""Writes vectors.tsv: what PyPI `phonenumbers` says of numbers of every region, for the tests of
host/src/pipeline/numbers. The version is that whose metadata the Rust library has:

    pip install phonenumbers==9.0.42 && python3 make.py > vectors.tsv

Columns: region, input, E.164 without '+', possible (with its reason), valid, kind, country."""

import phonenumbers as p

KINDS = {
    p.PhoneNumberType.FIXED_LINE: "fixed_line",
    p.PhoneNumberType.MOBILE: "mobile",
    p.PhoneNumberType.FIXED_LINE_OR_MOBILE: "fixed_line_or_mobile",
    p.PhoneNumberType.TOLL_FREE: "toll_free",
    p.PhoneNumberType.PREMIUM_RATE: "premium_rate",
    p.PhoneNumberType.SHARED_COST: "shared_cost",
    p.PhoneNumberType.VOIP: "voip",
    p.PhoneNumberType.PERSONAL_NUMBER: "personal_number",
    p.PhoneNumberType.PAGER: "pager",
    p.PhoneNumberType.UAN: "uan",
    p.PhoneNumberType.VOICEMAIL: "voicemail",
}
REASONS = {
    p.ValidationResult.IS_POSSIBLE: "possible",
    p.ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "local_only",
    p.ValidationResult.INVALID_COUNTRY_CODE: "country_code",
    p.ValidationResult.TOO_SHORT: "too_short",
    p.ValidationResult.INVALID_LENGTH: "length",
    p.ValidationResult.TOO_LONG: "too_long",
}


def row(region, text, number):
    e164 = p.format_number(number, p.PhoneNumberFormat.E164).lstrip("+")
    kind = KINDS.get(p.number_type(number), "")
    reason = REASONS[p.is_possible_number_with_reason(number)]
    valid = "valid" if p.is_valid_number(number) else "invalid"
    print(region, text, e164, reason, valid, kind, p.region_code_for_number(number) or "", sep="\t")


for region in sorted(p.SUPPORTED_REGIONS):
    seen = set()
    for kind in sorted(KINDS, key=lambda k: KINDS[k]):
        example = p.example_number_for_type(region, kind)
        if example is None:
            continue
        e164 = p.format_number(example, p.PhoneNumberFormat.E164)
        if e164 in seen:
            continue
        seen.add(e164)
        row("", e164, example)
        if kind in (p.PhoneNumberType.MOBILE, p.PhoneNumberType.FIXED_LINE):
            # As it is written at home and abroad, and with a digit too many and too few.
            national = p.format_number(example, p.PhoneNumberFormat.NATIONAL)
            row(region, national, p.parse(national, region))
            row("", p.format_number(example, p.PhoneNumberFormat.INTERNATIONAL), example)
            for text in (e164 + "5", e164[:-1]):
                try:
                    row("", text, p.parse(text))
                except p.NumberParseException:
                    pass
for region, text in (
    ("US", "011 44 7400 123456"), ("GB", "00 33 6 12 34 56 78"), ("JP", "010 44 7400 123456"),
    ("BR", "00 21 44 7400 123456"), ("AU", "0011 44 7400 123456"), ("SG", "001 44 7400 123456"),
    ("IT", "02 3661 8300"), ("US", "1 (202) 555-0143"), ("RU", "8 912 345-67-89"),
    ("FR", "06 12 34 56 78"), ("MX", "222 123 4567"), ("AR", "011 15-2345-6789"),
):
    row(region, text, p.parse(text, region))
