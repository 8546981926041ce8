#!/usr/bin/env python3
"""Writes synthetic records (no real person is in them) and truth.json, what in them identifies and what is medicine."""
import json
import random

rng = random.Random(7)
FAMILY = ["Abernathy", "Okonkwo", "Delacroix", "Iwasaki", "Petrossian", "Vandermeer", "Quiñones", "Rasmussen", "Thackeray", "Zielinski"]
GIVEN = ["Marguerite", "Chidi", "Rosalind", "Kenji", "Anahit", "Joost", "Ximena", "Birgit", "Percival", "Wanda"]
TOWNS = [("Marlborough", "MA", "01752"), ("Petaluma", "CA", "94952"), ("Kalispell", "MT", "59901"), ("Waukesha", "WI", "53186"), ("Tuscaloosa", "AL", "35401")]
STREETS = ["Juniper Street", "Lakeview Drive", "Old Mill Road", "Harrison Avenue", "Quarry Lane"]
DOCTORS = [("Haverford", "Elspeth"), ("Nakamura", "Toru"), ("Olorunfemi", "Bisi")]
TESTS = [("2345-7", "Glucose", "mg/dL", 70, 180), ("718-7", "Hemoglobin", "g/dL", 11, 17), ("2160-0", "Creatinine", "mg/dL", 0.6, 1.9), ("6690-2", "Leukocytes", "10*3/uL", 3.9, 11.2)]
PROBLEMS = [("44054006", "Type 2 diabetes mellitus"), ("38341003", "Hypertensive disorder"), ("195967001", "Asthma"), ("73211009", "Diabetes mellitus")]


def person(number):
    town, state, code = rng.choice(TOWNS)
    return dict(
        family=FAMILY[number], given=GIVEN[number], mrn=str(rng.randint(1_000_000, 9_999_999)),
        ssn=f"{rng.randint(900, 999)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}",
        birth=(1931 if number == 4 else rng.randint(1940, 2015), rng.randint(1, 12), rng.randint(1, 28)),
        street=f"{rng.randint(10, 9900)} {rng.choice(STREETS)}", town=town, state=state, code=code,
        phone=f"({rng.randint(201, 989)})555-{rng.randint(1000, 9999)}",
        email=f"{GIVEN[number].lower()}.{number}@mail.example", account=f"A{rng.randint(10**7, 10**8 - 1)}",
        policy=f"XYZ{rng.randint(10**8, 10**9 - 1)}", doctor=rng.choice(DOCTORS), sex=rng.choice("FM"),
        uuid=f"{rng.getrandbits(32):08x}-{rng.getrandbits(16):04x}-4{rng.getrandbits(12):03x}-a{rng.getrandbits(12):03x}-{rng.getrandbits(48):012x}",
        test=rng.choice(TESTS), problem=rng.choice(PROBLEMS), day=(rng.randint(1, 12), rng.randint(1, 28)), relative=rng.choice(["Augustine", "Philippa", "Leopold"]),
    )


def told(p):
    """What identifies a person wherever it stands."""
    birth = p["birth"]
    return [p["family"], p["given"], p["mrn"], p["ssn"], p["street"], p["town"], p["code"], p["phone"], p["email"], p["account"], p["policy"],
            p["doctor"][0], p["doctor"][1], p["relative"], "%04d%02d%02d" % birth, "%04d-%02d-%02d" % birth]


def bundle(people):
    entries, medicine = [], set()
    for p in people:
        code, test, unit, low, high = p["test"]
        value = round(rng.uniform(low, high), 1)
        medicine |= {test, unit, code, p["problem"][1], p["problem"][0], "fasting sample", "lisinopril 10 mg"}
        ref = {"reference": f"urn:uuid:{p['uuid']}", "display": f"{p['given']} {p['family']}"}
        when = "2024-%02d-%02d" % p["day"]
        entries.append({"fullUrl": f"urn:uuid:{p['uuid']}", "resource": {
            "resourceType": "Patient", "id": p["uuid"],
            "text": {"status": "generated", "div": f"<div xmlns=\"http://www.w3.org/1999/xhtml\"><b>{p['given']} {p['family'].upper()}</b>, MRN {p['mrn']}</div>"},
            "extension": [
                {"url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName", "valueString": "Wolfsbane"},
                {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": {"city": p["town"], "state": p["state"], "country": "US"}}],
            "identifier": [
                {"type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR", "display": "Medical Record Number"}]}, "system": "http://hospital.example/mrn", "value": p["mrn"]},
                {"type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "SS"}]}, "system": "http://hl7.org/fhir/sid/us-ssn", "value": p["ssn"]},
                {"type": {"coding": [{"code": "AN"}]}, "value": p["account"]}],
            "name": [{"use": "official", "family": p["family"], "given": [p["given"]], "prefix": ["Mx."]}],
            "telecom": [{"system": "phone", "value": p["phone"], "use": "home"}, {"system": "email", "value": p["email"]}],
            "gender": {"F": "female", "M": "male"}[p["sex"]], "birthDate": "%04d-%02d-%02d" % p["birth"],
            "address": [{"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/geolocation", "extension": [
                {"url": "latitude", "valueDecimal": 42.34571}, {"url": "longitude", "valueDecimal": -71.54211}]}],
                "line": [p["street"]], "city": p["town"], "state": p["state"], "postalCode": p["code"], "country": "US"}],
            "contact": [{"relationship": [{"text": "spouse"}], "name": {"text": f"{p['relative']} {p['family']}", "family": p["family"]}, "telecom": [{"system": "phone", "value": p["phone"]}]}],
            "photo": [{"contentType": "image/png", "data": "aGVsbG8gd29ybGQgZmFjZQ=="}],
            "generalPractitioner": [{"reference": f"Practitioner/{p['doctor'][0].lower()}", "display": f"Dr. {p['doctor'][1]} {p['doctor'][0]}"}]}})
        entries.append({"resource": {
            "resourceType": "Condition", "id": f"c-{p['uuid'][:8]}", "subject": ref, "recordedDate": when,
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": p["problem"][0], "display": p["problem"][1]}]}}})
        entries.append({"resource": {
            "resourceType": "Observation", "id": f"o-{p['uuid'][:8]}", "status": "final", "subject": ref,
            "effectiveDateTime": f"{when}T08:{rng.randint(10, 59)}:00-05:00", "issued": f"{when}T11:02:33.000-05:00",
            "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": test}]},
            "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
            "note": [{"text": f"{p['given']} {p['family']} (MRN {p['mrn']}) gave a fasting sample; spouse {p['relative']} reachable at {p['phone']}. Continue lisinopril 10 mg. Lives at {p['street']}, {p['town']}, {p['state']} {p['code']}."}]}})
    identifiers = {text for p in people for text in told(p)} | {p["uuid"] for p in people} | {"42.34571", "71.54211", "Wolfsbane", "aGVsbG8gd29ybGQ"}
    identifiers -= {p["policy"] for p in people}
    identifiers |= {"2024-%02d-%02d" % p["day"] for p in people} - {"2024-01-01"}
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}, identifiers, medicine


def messages(people):
    out, medicine = [], set()
    for number, p in enumerate(people):
        code, test, unit, low, high = p["test"]
        value = round(rng.uniform(low, high), 1)
        if number % 2:
            medicine |= {f"{p['problem'][0]}^{p['problem'][1]}^SCT", "no acute distress"}
        else:
            medicine |= {f"{code}^{test}^LN", f"|{value}|{unit}|", "lisinopril 10 mg"}
        stamp = "2024%02d%02d0830" % p["day"]
        birth = "%04d%02d%02d" % p["birth"]
        doctor = f"10{number}^{p['doctor'][0]}^{p['doctor'][1]}^^^Dr"
        head = lambda kind: f"MSH|^~\\&|LAB|GENERAL|EHR|CLINIC|{stamp}||{kind}|MSG{number:05}|P|2.5.1"
        pid = (f"PID|1||{p['mrn']}^^^GENERAL^MR||{p['family']}^{p['given']}^Q||{birth}|{p['sex']}||2106-3|{p['street']}^^{p['town']}^{p['state']}^{p['code']}^USA"
               f"||{p['phone']}^PRN^PH^{p['email']}|||M||{p['account']}^^^GENERAL^AN|{p['ssn']}")
        visit = f"PV1|1|I|ICU^101^A|E|||{doctor}|||MED||||7|||{doctor}|IP|V{number}{p['mrn'][:5]}|||||||||||||||||||||||||{stamp}"
        if number % 2:
            out.append("\r".join([head("ADT^A01^ADT_A01"), f"EVN|A01|{stamp}|||OP7^{p['doctor'][0]}^{p['doctor'][1]}", pid,
                f"NK1|1|{p['family']}^{p['relative']}|SPO^Spouse|{p['street']}^^{p['town']}^{p['state']}^{p['code']}|{p['phone']}", visit,
                f"DG1|1||{p['problem'][0]}^{p['problem'][1]}^SCT||{stamp}|A",
                f"IN1|1|PPO1|77|Example Mutual||||||||||||{p['family']}^{p['relative']}|SPO|{birth}|{p['street']}^^{p['town']}^{p['state']}^{p['code']}|||||||||||||||||{p['policy']}",
                f"NTE|1||Pt {p['given']} {p['family']} arrived with {p['relative']}, no acute distress. Policy {p['policy']}. PCP Dr. {p['doctor'][1]} {p['doctor'][0]}."]))
        else:
            out.append("\r".join([head("ORU^R01^ORU_R01"), pid, visit, f"ORC|RE|ORD{number}|F{number}||CM||||{stamp}|||{doctor}",
                f"OBR|1|ORD{number}|F{number}|{code}^{test}^LN|||{stamp}|||||||||{doctor}", f"OBX|1|NM|{code}^{test}^LN||{value}|{unit}|||||F|||{stamp}",
                f"OBX|2|TX|11488-4^Consult note^LN||{p['given']} {p['family']}, DOB {birth[4:6]}/{birth[6:]}/{birth[:4]}, MRN# {p['mrn']}, started on lisinopril 10 mg. Contact {p['email']}.||||||F",
                f"ZPI|1|{p['given']} {p['family']}|{p['ssn']}|{stamp}"]))
    identifiers = {text for p in people for text in told(p)}
    return "\r".join(out) + "\r", identifiers - {p["policy"] for p in people[::2]}, medicine


NOTE = """Discharge summary

Patient: Marguerite Abernathy          MRN: 4482913
DOB: 03/12/1958     Admitted: February 3, 2024     Discharged: 02/09/2024
Attending: Elspeth Haverford, MD       Account number A77120045

Mrs. Abernathy is a 65-year-old woman with type 2 diabetes mellitus (hemoglobin A1c 8.1 %) who was brought in by her
husband Leopold from 4410 Quarry Lane, Apt 12, Kalispell, MT 59901 with two days of fever. Blood pressure was 142/88 mmHg,
heart rate 96, temperature 38.4 C. Chest film showed a right lower lobe infiltrate. She received ceftriaxone 1 g IV daily
for five days. Her mother, Philippa Thackeray, is a 94-year-old with atrial fibrillation.

She will take amoxicillin 875 mg twice daily until 14 February 2024 and metformin 500 mg as before. Follow up with
Dr. Toru Nakamura, phone (406) 555-0188, fax 406-555-0189, t.nakamura@clinic.example. Portal:
https://portal.clinic.example/records/4482913. SSN on file 987-65-4320. Policy number XYZ99120034. Uploaded from 10.44.3.17.
"""
NOTE_IDENTIFIERS = ["Marguerite", "Abernathy", "4482913", "03/12/1958", "February 3", "02/09/2024", "Haverford", "A77120045", "Leopold", "Quarry Lane",
                    "59901", "Philippa", "Thackeray", "94-year", "14 February", "Nakamura", "555-0188", "555-0189", "t.nakamura", "portal.clinic",
                    "987-65-4320", "XYZ99120034", "10.44.3.17", "Kalispell"]
NOTE_MEDICINE = ["65-year-old woman", "type 2 diabetes mellitus", "8.1 %", "142/88 mmHg", "heart rate 96", "38.4 C", "right lower lobe infiltrate",
                 "ceftriaxone 1 g IV daily", "amoxicillin 875 mg twice daily", "metformin 500 mg", "atrial fibrillation"]

if __name__ == "__main__":
    people = [person(number) for number in range(10)]
    fhir, fhir_out, fhir_in = bundle(people)
    hl7, hl7_out, hl7_in = messages(people)
    with open("bundle.json", "w") as out:
        json.dump(fhir, out, indent=1, ensure_ascii=False)
        out.write("\n")
    with open("messages.hl7", "w", newline="") as out:
        out.write(hl7)
    with open("note.txt", "w") as out:
        out.write(NOTE)
    truth = {
        "bundle": {"identifiers": sorted(fhir_out), "medicine": sorted(fhir_in)},
        "messages": {"identifiers": sorted(hl7_out), "medicine": sorted(hl7_in)},
        "note": {"identifiers": NOTE_IDENTIFIERS, "medicine": NOTE_MEDICINE},
    }
    with open("truth.json", "w") as out:
        json.dump(truth, out, indent=1, ensure_ascii=False)
        out.write("\n")
