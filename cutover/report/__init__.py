"""What people see of the evidence: terminal, HTML, JUnit, charts."""
