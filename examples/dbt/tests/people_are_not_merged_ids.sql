-- The id of a person is not merged into another id.
select people.person_id
from {{ ref('people') }} as people
join {{ ref('identities') }} as identities on identities.distinct_id = people.person_id
where identities.person_id != people.person_id
